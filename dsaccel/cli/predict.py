"""`dsaccel predict`: the classes that trained weights see in images."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.errors import ConfigError


@takes("--trust-part", "--json")
def predict(
    weights: Annotated[
        str,
        typer.Argument(metavar="WEIGHTS", help="What dsaccel train --output wrote: .safetensors."),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    *,
    top: Annotated[int, typer.Option(min=1, help="Show so many classes an image.")] = 3,
    given: Given,
) -> None:
    """Tell the classes of images, the most probable first.

    Images are cut to their central square and scaled as those of a folder are.
    """
    missing = [str(image) for image in images if not image.is_file()]
    if missing:
        raise ConfigError(f"images must be files, but there is no {', '.join(missing)}")
    from dsaccel.report.results import prediction_table
    from dsaccel.training.predict import predict_files

    predictions = predict_files(weights, images, top)
    output = given.output()
    if given.as_json:
        named = [{"image": str(image), "classes": p} for image, p in predictions.items()]
        output.show_json({"weights": weights, "predictions": named})
        return
    output.show(prediction_table(predictions))
