"""Tables and charts of captions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.common.charts import Chart
from pipeline.tasks.task import Table

_SHOWN = 10  # captions in each table
_EXAMPLES = 6  # in the chart of the attention
