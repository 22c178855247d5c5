"""Testable statements of the five publications, the run that tests each, and the check of its result."""

from __future__ import annotations

from reproduction.claim_checks import (
    Claim,
    above,
    all_above_mean,
    below_flow,
    both,
    collapse,
    fewer_than_half,
    gain_on_game,
    loss_gap,
    mean_psnr,
    more_diverse,
    motions,
    no_gap,
    no_worse,
    pairs,
    rising,
    significant,
    step_ratio,
    table_gap,
    within,
    worst_two,
)

_MULTI = "python -m reproduction.multiscale_gan --only claims"
_GAME = "python -m reproduction.multiscale_gan --only games"
_DREAMS = "python -m reproduction.dreams"
_HIER = "python -m reproduction.hierarchical"
_AUTO = "python -m reproduction.autoencoders --only small"
_VISUAL = "python -m reproduction.visual_dynamics"
_SCALES = (
    'framecast benchmark --models "four=multiscale-gan:small --model.no-adversarial"'
    ' "one=multiscale-gan:small --model.no-adversarial --model.num-scales 1"'
    ' --data "ms_pacman=runs/benchmark-pacman/data/ms_pacman --size 84x64" --budget 90s --seeds 0 1 2 --horizon 1'
    " --out runs/scales"
    " && cp runs/scales/table.json docs/results/benchmark-scales.json"
)
PUBLICATIONS: dict[str, tuple[Claim, ...]] = {
    "Multi-scale adversarial prediction": (
        Claim(
            name="multiscale/beats-copy-last",
            statement="The network predicts the next frame better than persistence (copy-last) in the moving area.",
            source="Mathieu, Couprie, LeCun 2016, Table 1",
            run=_GAME,
            check=gain_on_game,
        ),
        Claim(
            name="multiscale/scales",
            statement="Four scales predict frame 1 better than one (PSNR).",
            source="Mathieu, Couprie, LeCun 2016, Table 1",
            run=_SCALES,
            check=table_gap("benchmark-scales", "four", "one", "psnr"),
        ),
        Claim(
            name="multiscale/l1-l2",
            statement="l1 predicts better than l2 (PSNR at frame 1).",
            source="Mathieu, Couprie, LeCun 2016, Table 1",
            run=_MULTI,
            check=loss_gap("l1", "l2", "psnr@1"),
        ),
        Claim(
            name="multiscale/gdl",
            statement="The gradient difference loss adds to l1: higher PSNR and sharper at frame 1.",
            source="Mathieu, Couprie, LeCun 2016, Table 1",
            run=_MULTI,
            check=both(loss_gap("l1+gdl", "l1", "psnr@1"), loss_gap("l1+gdl", "l1", "sharp_diff@1")),
        ),
        Claim(
            name="multiscale/adversarial-psnr",
            statement="The adversarial network with gradient difference loss has the highest PSNR at frame 1.",
            source="Mathieu, Couprie, LeCun 2016, Table 1",
            run=_MULTI,
            check=both(*(loss_gap("adversarial+gdl", n, "psnr@1") for n in ("l2", "l1", "l1+gdl"))),
        ),
        Claim(
            name="multiscale/adversarial-sharp",
            statement="Under 64 recursions the adversarial network stays sharper than the plain one.",
            source="README of the TensorFlow code",
            run=_MULTI,
            check=both(
                *(loss_gap("adversarial+gdl", "l1+gdl", f"sharpness_ratio@{k}", "") for k in (16, 32, 64)),
            ),
        ),
        Claim(
            name="multiscale/l2-blurs",
            statement="Trained by l2 alone it blurs under recursion: less than 0.8 of the truth's edges at frame 64.",
            source="Mathieu, Couprie, LeCun 2016, section 3; README of the TensorFlow code",
            run=_MULTI,
            check=within("multiscale-gan/claims/table/l2/sharpness_ratio@64/mean", 0, 0.8, "sharpness ratio", ".3f"),
        ),
        Claim(
            name="multiscale/no-psnr-difference",
            statement="Adversarial and plain training show no significant difference in PSNR and Sharp Diff.",
            source="README of the TensorFlow code",
            run=_MULTI,
            check=both(
                no_gap("adversarial+gdl", "l1+gdl", "psnr@1"), no_gap("adversarial+gdl", "l1+gdl", "sharp_diff@1")
            ),
        ),
        Claim(
            name="multiscale/twice-as-long",
            statement="An adversarial step takes about twice as long as a plain one (2.2 times in the published logs).",
            source="README and logs of the TensorFlow code",
            run=_MULTI,
            check=step_ratio,
        ),
        Claim(
            name="multiscale/ucf101",
            statement="The figures of Table 1 (31.5 dB with adversarial and gradient difference loss at frame 1).",
            source="Mathieu, Couprie, LeCun 2016, Table 1",
            why_not="needs Sports-1M, UCF101 and its optical flow; the order is tested above, on other data",
        ),
    ),
    "Visual Dynamics": (
        Claim(
            name="visual/axes",
            statement="Each shape's own axis of motion is learned: 95 % of sampled motions are at most 1 px off it.",
            source="Xue, Wu, Bouman, Freeman 2016, section 4; README of the TensorLayer code",
            run=_VISUAL,
            check=motions("off_axis", 0.95, 1.0, "share on the axis"),
        ),
        Claim(
            name="visual/several-futures",
            statement="Several different motions are drawn from one picture: 3 px or more of spread within a picture.",
            source="Xue, Wu, Bouman, Freeman 2016, section 4; README of the TensorLayer code",
            run=_VISUAL,
            check=motions("within_image_sd", 3.0, 10.0, "sd within a picture, px"),  # 10: the farthest true motion
        ),
        Claim(
            name="visual/distribution",
            statement="The drawn motions have the true distribution: below the divergences that were published.",
            source="Xue, Wu, Bouman, Freeman 2016, Table 1 (1.70 circles, 2.48 squares, 1.14 triangles)",
            run=_VISUAL,
            check=both(
                *(
                    within(f"visual-dynamics/shapes/motions/normal/shapes/{kind}/kl", 0, most, kind)
                    for kind, most in (("circle", 1.70), ("square", 2.48), ("triangle", 1.14))
                )
            ),
        ),
        Claim(
            name="visual/above-flow",
            statement="Its distribution of motions is nearer to the true one than copying flow from similar pictures.",
            source="Xue, Wu, Bouman, Freeman 2016, Table 1",
            run=_VISUAL,
            check=below_flow,
        ),
        Claim(
            name="visual/joint",
            statement="The linked motions of circle and triangle are learned: correlation of 0.9 or more in samples.",
            source="Xue, Wu, Bouman, Freeman 2016, section 4",
            run=_VISUAL,
            check=within(
                "visual-dynamics/shapes/motions/normal/corr_circle_triangle", 0.9, 1.0, "correlation of the two"
            ),
        ),
        Claim(
            name="visual/below-deterministic",
            statement="The code is used: the squared error falls below that of the best single guess.",
            source="README of the TensorLayer code, curves",
            run=_VISUAL,
            check=above(
                "visual-dynamics/bound/deterministic",
                "visual-dynamics/shapes/losses/val/l2",
                "best single guess and held-out error",
            ),
        ),
        Claim(
            name="visual/kl-diversity",
            statement="A greater KL weight brings diversity: samples of one picture spread more than without it.",
            source="README of the TensorLayer code",
            run=_VISUAL,
            check=more_diverse("w = 0", "stepped"),
        ),
        Claim(
            name="visual/transfer",
            statement="A motion is carried over: a pair's code moves another picture's shapes alike, within 2 px.",
            source="Xue, Wu, Bouman, Freeman 2016, section 5; official demo",
            run=_VISUAL,
            check=within("visual-dynamics/shapes/transfer_px", 0, 2, "px off on average"),
        ),
        Claim(
            name="visual/few-dimensions",
            statement="Only a minority of the code's numbers is used (299 of 3,200 on shapes).",
            source="Xue, Wu, Bouman, Freeman 2016, section 5",
            run=_VISUAL,
            check=fewer_than_half,
        ),
        Claim(
            name="visual/people",
            statement="People take synthesised frames for real in 36 to 41 % of trials.",
            source="Xue, Wu, Bouman, Freeman 2016, human study",
            why_not="needs a study with people and the published exercise videos",
        ),
        Claim(
            name="visual/sprites",
            statement="Analogies of sprites: mean squared error 15.9, best compared method 23.0.",
            source="Xue, Wu, Bouman, Freeman 2016, Table 2",
            why_not="needs the sprites set, which is not generated here",
        ),
    ),
    "Fourteen generative autoencoders": (
        Claim(
            name="autoencoders/convolutional",
            statement="Convolutional models predict better than their fully connected twins.",
            source="README and figures of the repository",
            run=_AUTO,
            check=both(*(pairs(m, "convolutional above fully connected") for m in ("psnr", "moving_psnr"))),
        ),
        Claim(
            name="autoencoders/best",
            statement="C-GIA-AE and C-LSTM-VAE are the best of the fourteen.",
            source="README of the repository",
            run=_AUTO,
            check=both(*(pairs(m, "c-gia-ae and c-lstm-vae above the other twelve") for m in ("psnr", "moving_psnr"))),
        ),
        Claim(
            name="autoencoders/above-gan",
            statement="C-GIA-AE and C-LSTM-VAE are better than the multi-scale adversarial network.",
            source="README of the repository",
            run=_AUTO,
            check=both(*(pairs(m, "c-gia-ae and c-lstm-vae above multiscale-gan") for m in ("psnr", "moving_psnr"))),
        ),
        Claim(
            name="autoencoders/worst",
            statement="FC-AE and FC-VAE are the worst.",
            source="README of the repository",
            run=_AUTO,
            check=worst_two,
        ),
        Claim(
            name="autoencoders/predict",
            statement="All fourteen predict the frame five steps ahead: better than the mean of the frames seen.",
            source="README of the repository (pictures only)",
            run=_AUTO,
            check=all_above_mean,
        ),
        Claim(
            name="autoencoders/fid",
            statement="Inception score, Fréchet distance, path length, precision and recall of samples.",
            source="notebooks of the repository, cells without results",
            why_not="no figure was ever published, and the Inception weights are not part of this package",
        ),
    ),
    "VAE and mixture-density RNN": (
        Claim(
            name="dreams/moves",
            statement="With a mixture density the dream moves as the data do (0.5 to 2 times their change a frame).",
            source="README of the repository",
            run=_DREAMS,
            check=within("dreams/ball/heads/mdn/movement", 0.5, 2.0, "movement over the data's"),
        ),
        Claim(
            name="dreams/freezes",
            statement="Without one, as published (softmax, squared error), the dream of the ball is nearly still.",
            source="README of the repository",
            run=_DREAMS,
            check=within("dreams/ball/heads/softmax-mse/movement", 0.0, 0.1, "movement over the data's", ".3f"),
        ),
        Claim(
            name="dreams/freezes-filmed",
            statement="Without one, as published (softmax, squared error), the dream of a filmed clip is nearly still.",
            source="README of the repository",
            run=_DREAMS,
            check=within("dreams/clip-bikes/movement/softmax-mse", 0.0, 0.1, "movement over the data's", ".3f"),
        ),
        Claim(
            name="dreams/mean",
            statement="Squared error returns the mean of possible futures: within 10 % of the pixel mean of both ways.",
            source="Bishop 1994, section 2; README of the repository",
            run=_DREAMS,
            check=within("dreams/crossroads/heads/linear/off_mean@8", 0.0, 0.1, "distance to the mean of both ways"),
        ),
        Claim(
            name="dreams/mean-code",
            statement="Squared error returns the mean of its targets: the code half way, nearer than either way.",
            source="Bishop 1994, section 2",
            run=_DREAMS,
            check=within("dreams/crossroads/mean_code/linear", 0.0, 0.5, "distance to it; 1 is either way's"),
        ),
        Claim(
            name="dreams/both-ways",
            statement="A mixture dreams both of two equally likely futures, each in 35 to 65 % of dreams.",
            source="Bishop 1994; Ha and Schmidhuber 2018, section 2",
            run=_DREAMS,
            check=both(
                within("dreams/crossroads/heads/mdn/left", 0.35, 0.65, "left"),
                within("dreams/crossroads/heads/mdn/right", 0.35, 0.65, "right"),
            ),
        ),
        Claim(
            name="dreams/likelihood",
            statement="Ten Gaussians fit the next code better than one.",
            source="Bishop 1994, section 3",
            run=_DREAMS,
            check=above("dreams/crossroads/nll/gaussian", "dreams/crossroads/nll/mdn", "nats, one and ten", ".2f"),
        ),
        Claim(
            name="dreams/ball",
            statement="The dream of the ball looks like the animation: there in 95 % of frames, 2 px a frame, turning.",
            source="README of the repository",
            run=_DREAMS,
            check=both(
                within("dreams/ball/heads/mdn/present", 0.95, 1.0, "present"),
                within("dreams/ball/heads/mdn/step", 1.0, 3.0, "px a frame"),
                within("dreams/ball/heads/mdn/fewest_turns", 4, 60, "fewest turns in 300 frames", ".0f"),
            ),
        ),
        Claim(
            name="dreams/decoded",
            statement="Decoded frames resemble the originals: the ball within 1 px in 95 % of frames.",
            source="README of the repository",
            run=_DREAMS,
            check=within("dreams/ball/centre_within_1px", 0.95, 1.0, "share within 1 px"),
        ),
        Claim(
            name="dreams/temperature",
            statement="Temperature governs how uncertain the dream is.",
            source="Ha and Schmidhuber 2018, section 2",
            run=_DREAMS,
            check=rising("dreams/ball/temperature"),
        ),
        Claim(
            name="dreams/videos",
            statement="The losses on record for two videos (reconstruction 131.9 a frame, 12.83 nats).",
            source="notebooks of the repository",
            why_not="the two videos are somebody else's and are not fetched; other videos shift the level",
        ),
        Claim(
            name="dreams/agent",
            statement="An agent that learns inside the dream plays the real game.",
            source="Ha and Schmidhuber 2018, sections 3 and 4",
            why_not="this package predicts and trains no agents",
        ),
    ),
    "Hierarchical long-term prediction": (
        Claim(
            name="hierarchical/colour",
            statement="A bouncing shape keeps its colour for 16 frames: 96.9 % correct, none gone (here 95 and 1 %).",
            source="Wichers, Villegas, Erhan, Lee 2018, Table 1",
            run=_HIER,
            check=both(
                within("hierarchical/bouncing/short/correct/15", 0.95, 1.0, "correct", ".1%"),
                within("hierarchical/bouncing/short/gone/15", 0.0, 0.01, "gone", ".1%"),
            ),
        ),
        Claim(
            name="hierarchical/long",
            statement="Errors do not pile up in pixels: the shape is still there after 1,000 frames.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 4.1",
            run=_HIER,
            check=within("hierarchical/bouncing/long/gone/10", 0.0, 0.01, "gone at frame 1,000", ".1%"),
        ),
        Claim(
            name="hierarchical/still-there",
            statement="With the critic people are still there at frame 127.",
            source="Wichers, Villegas, Erhan, Lee 2018, Figure 4",
            run=_HIER,
            check=no_worse("epva-gan"),
        ),
        Claim(
            name="hierarchical/e2e-blurs",
            statement="Trained end to end it blurs: less sharp at frame 64 than with predicted encodings.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 4.3",
            run=_HIER,
            check=above(
                "hierarchical/walking/table/epva/sharpness/64",
                "hierarchical/walking/table/e2e/sharpness/64",
                "sharpness, epva and e2e",
                margin=0.01,  # no figures of single clips are stored: a hundredth is the least difference that counts
            ),
        ),
        Claim(
            name="hierarchical/critic-sharper",
            statement="The critic makes frames sharper.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 4.3",
            run=_HIER,
            check=above(
                "hierarchical/walking/table/epva-gan/sharpness/64",
                "hierarchical/walking/table/epva/sharpness/64",
                "sharpness, epva-gan and epva",
                margin=0.01,  # no figures of single clips are stored: a hundredth is the least difference that counts
            ),
        ),
        Claim(
            name="hierarchical/delay",
            statement="With the encoding loss in full from the start, encodings collapse.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 3.2",
            run=_HIER,
            check=collapse,
        ),
        Claim(
            name="hierarchical/pose",
            statement="Encodings tell the pose better than as many fixed projections of the frame.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 4.3 (9 % better than ImageNet features)",
            run=_HIER,
            check=above(
                "hierarchical/walking/table/epva/probe/random projection",
                "hierarchical/walking/table/epva/probe/encodings",
                "error from projections and from encodings",
            ),
        ),
        Claim(
            name="hierarchical/actions",
            statement="The robot's actions matter: another clip's actions make the forecast worse.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 4.2",
            run=_HIER,
            check=significant(
                "hierarchical/pushing/recorded_minus/seen/shuffled", "PSNR with its actions less that with another's"
            ),
        ),
        Claim(
            name="hierarchical/novel",
            statement="Things seen in training are predicted better than novel ones.",
            source="Finn, Goodfellow, Levine 2016, the data's two test sets",
            run=_HIER,
            check=mean_psnr(("test/seen", "recorded"), ("test/novel", "recorded")),
        ),
        Claim(
            name="hierarchical/context",
            statement="Ten frames of context are not better than five.",
            source="Wichers, Villegas, Erhan, Lee 2018, section 4.3",
            run=_HIER,
            check=significant(
                "hierarchical/walking/ten_minus_five", "PSNR with ten less that with five", otherwise=True
            ),
        ),
        Claim(
            name="hierarchical/people",
            statement="People prefer its videos to those of CDNA and SVG-LP.",
            source="Wichers, Villegas, Erhan, Lee 2018, Table 2",
            why_not="needs a paid study, Human3.6M, and two systems that are not part of this package",
        ),
        Claim(
            name="hierarchical/detector",
            statement="A person detector's score stays level over 127 frames where CDNA's falls.",
            source="Wichers, Villegas, Erhan, Lee 2018, Figure 4",
            why_not="needs the detector's weights, Human3.6M and CDNA; presence is measured exactly instead, above",
        ),
    ),
}
