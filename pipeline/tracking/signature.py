"""What the registered model takes and gives, in MLflow's words."""

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map, Object, Property

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.binary, "video", required=False),
            ColSpec(DataType.string, "path", required=False),
            ColSpec(DataType.double, "start_seconds", required=False),
            ColSpec(DataType.double, "end_seconds", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Map(DataType.double), "probabilities"),
            ColSpec(DataType.boolean, "confident", required=False),
            ColSpec(
                Array(
                    Object(
                        [
                            Property("start_seconds", DataType.double),
                            Property("end_seconds", DataType.double),
                            Property("probabilities", Map(DataType.double)),
                        ]
                    )
                ),
                "timeline",
                required=False,
            ),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("top_k", DataType.long, 0),
            ParamSpec("timeline", DataType.boolean, False),
            ParamSpec("clips", DataType.long, 0),
            ParamSpec("keep_going", DataType.boolean, False),
        ]
    ),
)
