"""The section ``tracking`` of params.yaml."""

from typing import Literal

from pipeline.common.settings import Section

OnError = Literal["fail", "buffer"]


class TrackingSection(Section):
    """What happens when the MLflow store is unreachable.

    Attributes:
        on_error: ``fail`` before the training starts, or ``buffer``: train, keep the run in
            ``mlflow-buffer/``, and send it with ``vidpipe sync``. An outage during a training never
            stops it: what could not be sent is kept in both cases. A store that refuses a request,
            such as for a wrong password, is no outage: at the start of a training and in the
            register stage, it is an error in both cases.
    """

    on_error: OnError = "fail"
