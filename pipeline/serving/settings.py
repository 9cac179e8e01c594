"""The section ``serve`` of params.yaml."""

from pipeline.common.settings import Section


class ServeSection(Section):
    """What a server of the model may read.

    Attributes:
        path_root: folder below which requests may name files by path; empty: no paths.
    """

    path_root: str = ""
