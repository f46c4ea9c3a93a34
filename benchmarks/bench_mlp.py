"""The fused network beside torch, eager and compiled, and beside the machine's own matrix product, all in one run.

Counted are the useful products alone: 2 Σ in·out a row forwards, three times that forwards and backwards (the gradients
of the input and of the weights cost as much as the output each).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from common import interleaved, machine, sgemm_ceiling, table

from neural3d.fields.mlp import MLP
from neural3d.ops.memory import keep_memory

ROWS = 1 << 18
CEILING_N = 1536
NETWORKS = {
    "32-64-64-16": ([32, 64, 64, 16], "none"),
    "32-64-16, ngp's density": ([32, 64, 16], "none"),
    "32-64-64-3, ngp's colour": ([32, 64, 64, 3], "sigmoid"),
    "32-64-64-64-64-16": ([32, 64, 64, 64, 64, 16], "none"),
    "63-128-128-128-4": ([63, 128, 128, 128, 4], "none"),
}


def candidates(widths: list[int], output_activation: str) -> dict[str, Callable[[], object]]:
    """(implementation, pass) -> one call of it."""
    torch.manual_seed(0)
    options = dict(width=widths[1], hidden_layers=len(widths) - 2, output_activation=output_activation)
    ours = MLP(widths[0], widths[-1], **options)
    eager = MLP(widths[0], widths[-1], twice_differentiable=True, **options)  # plain torch operations
    eager.load_state_dict(ours.state_dict())
    x = torch.randn(ROWS, widths[0], requires_grad=True)
    v_y = torch.randn(ROWS, widths[-1])

    def both(network):
        def forward():
            with torch.no_grad():
                network(x)

        def forward_backward():
            torch.autograd.grad(network(x), [x, *network.parameters()], v_y)

        return {"forward": forward, "forward + backward": forward_backward}

    found = {("ours", name): call for name, call in both(ours).items()}
    found |= {("torch", name): call for name, call in both(eager).items()}
    compiled = torch.compile(eager)
    try:
        found |= {("torch.compile", name): call for name, call in both(compiled).items()}
        found["torch.compile", "forward + backward"]()
    except Exception as error:
        print(f"torch.compile skipped: {type(error).__name__}: {str(error).splitlines()[0]}")
        found = {key: call for key, call in found.items() if key[0] != "torch.compile"}
    return found


def main() -> None:
    keep_memory()
    lines = []
    for name, (widths, output_activation) in NETWORKS.items():
        calls = candidates(widths, output_activation)
        seconds = interleaved({"sgemm": sgemm_ceiling(CEILING_N), **{" ".join(k): f for k, f in calls.items()}})
        ceiling = 2 * CEILING_N**3 / seconds["sgemm"]
        forward = 2 * ROWS * sum(i * o for i, o in itertools.pairwise(widths))
        for who, what in calls:
            s = seconds[f"{who} {what}"]
            rate = forward * (1 if what == "forward" else 3) / s
            lines.append(
                [name, what, who, f"{s * 1e3:.1f} ms", f"{ROWS / s / 1e6:.2f}", f"{rate / 1e9:.0f}",
                 f"{rate / ceiling:.0%} of {ceiling / 1e9:.0f}"]
            )  # fmt: skip
    print(machine())
    print(table(["network", "pass", "who", "median", "M rows/s", "GFLOP/s", "of sgemm"], lines))


if __name__ == "__main__":
    main()
