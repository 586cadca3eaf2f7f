"""`dsaccel export`: a study's best hierarchy as a config; trained weights for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import study_names
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError
from dsaccel.files import check_target


def export(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|WEIGHTS",
            help="A study that was run, or trained weights (.safetensors).",
            autocompletion=study_names,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The config of a study. Default: best.toml."),
    ] = None,
    hierarchy: Annotated[
        str | None, typer.Option(help="Another one than the best, trained or not.")
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the trained network as ONNX, checked."),
    ] = None,
    torch: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it as torch.export does (.pt2), checked."),
    ] = None,
    up_to: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD",
            help="With --onnx or --torch: only the network up to a local head, as 's2.1 conv 2'.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
) -> None:
    """Write the best hierarchy as a config, or its trained network.

    The config is for `dsaccel train`. The trained network of a study is the one whose weights the
    search has kept.
    """
    is_weights = target.endswith(".safetensors")
    if is_weights and (output or hierarchy or not (onnx or torch)):
        raise ConfigError("of weights --onnx FILE or --torch FILE must be asked for, and no config")
    if up_to and not (onnx or torch):
        raise ConfigError("--up-to needs --onnx FILE or --torch FILE: a config is of all layers")
    for path, suffix in ((onnx, ".onnx"), (torch, ".pt2")):
        if path is not None:
            check_target(path, (suffix,), force=force)
    if not is_weights and (output or not (onnx or torch)):
        _write_config(target, output or Path("best.toml"), hierarchy, force)
    if onnx or torch:
        _write_network(target, hierarchy, up_to, onnx, torch)


def _write_config(study: str, output: Path, hierarchy: str | None, force: bool) -> None:
    from dsaccel.api import Study

    searched = Study.load(study)
    run = searched.export(output, hierarchy, force=force)
    not_trained = "" if run.result else f", not trained in {searched.name}"
    Output().say(f"{hierarchy or run.hierarchy} -> {output}{not_trained}")


def _write_network(
    target: str,
    hierarchy: str | None,
    up_to: str | None,
    onnx: Path | None,
    torch: Path | None,
) -> None:
    from dsaccel.nn.exports import write_onnx, write_torch
    from dsaccel.nn.network import load_network

    if target.endswith(".safetensors"):
        network = load_network(target)
    else:
        from dsaccel.api import Study

        network = Study.load(target).trained_network(hierarchy)
    if up_to:
        network = network.up_to(up_to)
    for path, write in ((onnx, write_onnx), (torch, write_torch)):
        if path is not None:
            difference = write(network, path)
            Output().say(f"{target} -> {path}, logits differ by at most {difference:.1g}")
