"""The public code of Nøkland and Eidnes (ICML 2019), read from a checkout at run time.

There is no module to import: the file parses arguments, loads data and trains when it is imported.
Its definitions are compiled here without that.
"""

import ast
import contextlib
import hashlib
import io
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from dsaccel.config.study import NetworkConfig

REPOSITORY = "anokland/local-loss"

NEEDED = {
    "LocalLossBlockLinear",
    "LocalLossBlockConv",
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "Net",
    "VGGn",
    "to_one_hot",
    "similarity_matrix",
    "train",
    "cfg",
    "parser",
}


@dataclass(frozen=True)
class Checkout:
    """The reference's networks, training loop and arguments, and where they come from."""

    code: CodeType
    """Leaves `args`, parsed from `argv`, in the namespace that it runs in."""
    commit: str | None
    """None: a copy without history."""
    sha256: str
    """Of its file."""

    @property
    def record(self) -> dict[str, str | None]:
        """What it is, for a file of results."""
        return {
            "repository": REPOSITORY,
            "commit": self.commit,
            "train_py_sha256": self.sha256,
        }


def read_checkout(folder: Path) -> Checkout:
    """Read a clone.

    Raises:
        ValueError: if it is something else.
    """
    file = folder / "train.py"
    if not file.is_file():
        raise ValueError(f"{folder} must be a clone of {REPOSITORY}; no {file.name}")
    source = file.read_text(encoding="utf-8")
    digest = hashlib.sha256(source.encode()).hexdigest()
    return Checkout(definitions(source), find_commit(folder), digest)


def load(checkout: Checkout, flags: dict[str, Any]) -> dict[str, Any]:
    """A namespace with the definitions, under the given command line; a flag of None has no value.

    On the CPU, whatever is at hand.
    """
    argv = [str(word) for pair in flags.items() for word in pair if word is not None]
    space: dict[str, Any] = {"__name__": "reference", "argv": argv}
    exec(checkout.code, space)
    space["args"].cuda = False
    return space


def build_network(
    space: dict[str, Any],
    network: str,
    blocks: Sequence[int],
    *,
    channels: int,
    side: int,
    num_classes: int,
) -> Any:
    """One of the reference's networks; VGGs have the hierarchy of their name, whatever `blocks`."""
    space["num_classes"] = num_classes
    width = space["args"].feat_mult
    if network.startswith("vgg"):
        return space["VGGn"](network, side, channels, num_classes, width)
    is_basic = network in ("resnet18", "resnet34")
    block = mended(space["BasicBlock"]) if is_basic else space["Bottleneck"]
    return space["ResNet"](block, list(blocks), num_classes, channels, width, side)


def train(space: dict[str, Any], batches: Any, learning_rate: float) -> None:
    """Run the reference's training loop over the batches, without what it prints."""
    space["train_loader"] = batches
    with contextlib.redirect_stdout(io.StringIO()):
        space["train"](1, learning_rate)


def set_up_training(space: dict[str, Any], model: torch.nn.Module, learning_rate: float) -> Any:
    """Give the loop its network and the output layer's optimizer, which is returned."""
    model.set_learning_rate(learning_rate)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    space |= {"model": model, "optimizer": optimizer}
    return optimizer


class Trainer:
    """A network of the reference in fp32 and its own training loop, statistics switched off."""

    def __init__(
        self,
        checkout: Checkout,
        network: str,
        blocks: Sequence[int],
        config: NetworkConfig,
        *,
        channels: int,
        side: int,
        num_classes: int,
        learning_rate: float = 3e-4,
    ) -> None:
        flags = {
            "--model": network,
            "--loss-sup": config.loss,
            "--beta": config.beta,
            "--nonlin": "leakyrelu",
            "--feat-mult": config.width,
            "--dim-in-decoder": round(config.decoder_size * config.width),
            "--dropout": config.dropout,
            "--lr": learning_rate,
            "--no-print-stats": None,
        }
        self.learning_rate = learning_rate
        self._space = load(checkout, flags)
        shape = {"channels": channels, "side": side, "num_classes": num_classes}
        model = build_network(self._space, network, blocks, **shape)
        self._model = model
        set_up_training(self._space, model, learning_rate)

    def move_to(self, device: torch.device) -> None:
        """Train there; the parameters stay those that the optimizers have."""
        self._model.to(device)
        self._space["args"].cuda = device.type == "cuda"

    def train(self, batches: Any) -> None:
        """An epoch over batches of (B, C, H, W) and (B,); `batches.dataset` has their images."""
        train(self._space, batches, self.learning_rate)


def mended(block: Any) -> Any:
    """The reference's basic block, with local classifiers of the size that its maps have.

    It sizes them by the block's input side, and so a block with a stride cannot run.
    """

    class Mended(block):
        def __init__(self, in_channels: int, channels: int, stride: int, *rest: int) -> None:
            num_classes, side = rest
            super().__init__(in_channels, channels, stride, num_classes, side // stride)

    return Mended


def definitions(source: str) -> CodeType:
    """The reference's networks, loop and arguments, without what its file does when imported.

    Running them leaves `args`, parsed from `argv`, in the namespace.
    """
    body: list[ast.stmt] = []
    found: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) if name in NEEDED:
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) if name in NEEDED:
                found.add(name)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="parser")))):
                pass
            case ast.Import() | ast.ImportFrom() if "torchvision" not in ast.unparse(node):
                pass
            case _:
                continue
        body.append(node)
    if found != NEEDED:
        missing = ", ".join(sorted(NEEDED - found))
        raise ValueError(f"train.py of the checkout must define {missing}; is it local-loss?")
    body += ast.parse("args = parser.parse_args(argv)").body
    return compile(ast.Module(body, type_ignores=[]), "train.py", "exec")


def find_commit(folder: Path) -> str | None:
    """The commit of a clone; None for a copy without history."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
