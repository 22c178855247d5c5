"""MODELS: name on the command line -> (module, class). A plain dict; a test checks that every file is in it."""

#: The generative autoencoders, which are variants of one class.
AUTOENCODERS = (
    *("c-ae", "c-vae", "fc-ae", "fc-vae", "c-ga-ae", "fc-ga-ae", "c-gia-ae", "fc-gia-ae", "c-ia-ae"),
    *("fc-ia-ae", "c-lstm-ae", "c-lstm-vae", "c-td-ae", "c-td-vae"),
)

MODELS: dict[str, tuple[str, str]] = {
    "copy-last": ("framecast.models.baselines", "CopyLast"),
    "temporal-mean": ("framecast.models.baselines", "TemporalMean"),
    "linear-flow": ("framecast.models.linear_flow", "LinearFlow"),
    "categorical": ("framecast.models.categorical.predictor", "Categorical"),
    "direct": ("framecast.models.direct.predictor", "Direct"),
    "hierarchical": ("framecast.models.hierarchical.predictor", "Hierarchical"),
    "multiscale-gan": ("framecast.models.multiscale_gan.predictor", "MultiscaleGAN"),
    "dreams": ("framecast.models.dreams.predictor", "Dreams"),
    **{name: ("framecast.models.autoencoders.predictor", "Autoencoder") for name in AUTOENCODERS},
    "visual-dynamics": ("framecast.models.visual_dynamics.predictor", "VisualDynamics"),
}

#: Models without weights: there is nothing to train.
UNTRAINED = ("copy-last", "temporal-mean", "linear-flow")

#: Model of `train`, and packaged weights of `train`, `predict` and `demo`, where none are named.
DEFAULT_MODEL = "direct"
DEFAULT_RUN = "direct-any"
