"""MODELS: name on the command line -> (module, class). A plain dict; a test checks that every file is in it."""

MODELS: dict[str, tuple[str, str]] = {
    "copy-last": ("framecast.models.baselines", "CopyLast"),
    "temporal-mean": ("framecast.models.baselines", "TemporalMean"),
    "linear-flow": ("framecast.models.linear_flow", "LinearFlow"),
    "categorical": ("framecast.models.categorical.predictor", "Categorical"),
    "direct": ("framecast.models.direct.predictor", "Direct"),
    "hierarchical": ("framecast.models.hierarchical.predictor", "Hierarchical"),
    "multiscale-gan": ("framecast.models.multiscale_gan.predictor", "MultiscaleGAN"),
    "dreams": ("framecast.models.dreams.predictor", "Dreams"),
    "c-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-vae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "fc-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "fc-vae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-ga-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "fc-ga-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-gia-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "fc-gia-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-ia-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "fc-ia-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-lstm-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-lstm-vae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-td-ae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "c-td-vae": ("framecast.models.autoencoders.predictor", "Autoencoder"),
    "visual-dynamics": ("framecast.models.visual_dynamics.predictor", "VisualDynamics"),
}

#: Models without weights: there is nothing to train.
UNTRAINED = ("copy-last", "temporal-mean", "linear-flow")
