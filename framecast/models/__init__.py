"""MODELS: name on the command line -> (module, class). A plain dict; a test checks that every file is in it."""

MODELS: dict[str, tuple[str, str]] = {
    "copy-last": ("framecast.models.copy_last", "CopyLast"),
    "temporal-mean": ("framecast.models.temporal_mean", "TemporalMean"),
    "hierarchical": ("framecast.models.hierarchical", "Hierarchical"),
    "multiscale-gan": ("framecast.models.multiscale_gan", "MultiscaleGAN"),
    "dreams": ("framecast.models.dreams", "Dreams"),
}
