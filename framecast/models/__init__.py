"""MODELS: name on the command line -> (module, class). A plain dict; a test checks that every file is in it."""

MODELS: dict[str, tuple[str, str]] = {
    "copy-last": ("framecast.models.copy_last", "CopyLast"),
    "temporal-mean": ("framecast.models.temporal_mean", "TemporalMean"),
    "hierarchical": ("framecast.models.hierarchical", "Hierarchical"),
    "multiscale-gan": ("framecast.models.multiscale_gan", "MultiscaleGAN"),
    "dreams": ("framecast.models.dreams", "Dreams"),
    "c-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-vae": ("framecast.models.autoencoders", "Autoencoder"),
    "fc-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "fc-vae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-ga-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "fc-ga-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-gia-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "fc-gia-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-ia-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "fc-ia-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-lstm-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-lstm-vae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-td-ae": ("framecast.models.autoencoders", "Autoencoder"),
    "c-td-vae": ("framecast.models.autoencoders", "Autoencoder"),
    "visual-dynamics": ("framecast.models.visual_dynamics", "VisualDynamics"),
}
