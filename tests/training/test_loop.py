"""The training loop: what a step, an epoch and a run do, and that an interrupted run ends where another would."""

import math
import warnings

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from recsys.errors import ConfigError, DataWarning, TrainingError
from recsys.nn.layers import dropout
from recsys.nn.losses import masked_squared_error
from recsys.nn.networks import AutoRecNetwork
from recsys.sparse import Rows
from recsys.training import Alternation, Loss, TrainingConfig, Turn, train
from recsys.training.loop import Watch
from tests.contract import cells_of, ratings

pytestmark = pytest.mark.filterwarnings("ignore:patience = ")  # so few steps are meant
MATRIX = ratings(n_users=13, n_items=7)


class Interrupt(Exception):
    """Stands for whatever stops a run."""


def config(**changes):
    return TrainingConfig(**{"epochs": 3, "batch_size": 4, "learning_rate": 0.05, **changes})


SETTINGS = config()


def network_of(seed=0, hidden=3):
    return AutoRecNetwork(MATRIX.shape[1], hidden, torch.Generator().manual_seed(seed))


def squared(network):
    """The AutoRec objective."""

    def objective(batch, step, noise):
        output = network.output
        return Loss(masked_squared_error(network.encode(batch), output.weight, output.bias, batch), len(batch.columns))

    return objective


def noisy(network):
    """The same with dropout of the hidden layer, so that the draws of the noise generator matter."""

    def objective(batch, step, noise):
        output = network.output
        hidden = network.encode(batch)
        hidden = hidden * dropout(torch.ones_like(hidden), 0.3, noise)
        return Loss(masked_squared_error(hidden, output.weight, output.bias, batch), len(batch.columns))

    return objective


def run(objective=squared, network=None, matrix=MATRIX, seed=1, config=SETTINGS, **options):
    """Train and return the network and its record."""
    network = network_of() if network is None else network
    generator = torch.Generator().manual_seed(seed)
    return network, train(network, Rows(matrix), objective(network), config, generator=generator, **options)


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(record):
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in record.epochs]


def test_every_row_is_visited_once_per_epoch_in_a_new_order():
    steps, seen = [], []

    def spying(network):
        inner = squared(network)

        def objective(batch, step, noise):
            assert network.training
            steps.append(step)
            seen.append(batch.rows.tolist())
            return inner(batch, step, noise)

        return objective

    network, _ = run(spying)
    assert steps == list(range(3 * 4))
    assert [len(rows) for rows in seen] == [4, 4, 4, 1] * 3
    epochs = [[row for rows in seen[start : start + 4] for row in rows] for start in (0, 4, 8)]
    assert all(sorted(order) == list(range(13)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(13))
    assert not network.training


def test_seeds_decide_the_run_and_the_global_generator_stays():
    before = torch.get_rng_state()
    one, first = run(noisy)
    other, second = run(noisy)
    third, _ = run(noisy, seed=2)
    assert equal(weights(one), weights(other))
    assert without_seconds(first) == without_seconds(second)
    assert not equal(weights(one), weights(third))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_reported_loss_is_one_sum_over_one_count():
    batches = []

    def fixed(network):
        def objective(batch, step, noise):
            total = (batch.rows + 1).sum() * 1.0
            batches.append((float(total), int(batch.rows.square().sum())))
            return Loss(total + 0.0 * sum(p.sum() for p in network.parameters()), batches[-1][1])

        return objective

    _, record = run(fixed, config=config(epochs=1))
    assert record.epochs[0]["loss"] == pytest.approx(sum(range(1, 14)) / sum(r**2 for r in range(13)), rel=1e-12)
    mean_of_means = np.mean([total / count for total, count in batches])
    assert abs(record.epochs[0]["loss"] - mean_of_means) > 0.009  # so that the test tells the two apart


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_equals_a_plain_torch_loop(schedule):
    settings = config(weight_decay=0.3, schedule=schedule)
    network, record = run(config=settings)

    plain = network_of()
    # The order of rows comes from the first seed that the generator gives.
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(1)))
    order_rng = torch.Generator().manual_seed(seed)
    cells = torch.from_numpy(cells_of(MATRIX)).float()
    mask = ~cells.isnan()
    dense = cells.nan_to_num()
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.05)
    losses, step = [], 0
    for _ in range(3):
        total = count = 0.0
        for rows in torch.randperm(13, generator=order_rng).split(4):
            if schedule == "cosine":
                optimiser.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 12)) / 2
            hidden = torch.sigmoid(dense[rows] @ plain.input.weight + plain.input.bias)
            errors = ((plain.output(hidden) - dense[rows])[mask[rows]] ** 2).sum()
            matrices = plain.input.weight.square().sum() + plain.output.weight.square().sum()
            optimiser.zero_grad()
            (errors / len(rows) + 0.3 / 2 * matrices).backward()
            optimiser.step()
            total, count, step = total + float(errors.detach()), count + int(mask[rows].sum()), step + 1
        losses.append(total / count)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0.0, atol=1e-5)
    assert [entry["loss"] for entry in record.epochs] == pytest.approx(losses, rel=1e-5)


def test_weight_decay_touches_matrices_only():
    def flat(network):
        return lambda batch, step, noise: Loss(0.0 * sum(p.sum() for p in network.parameters()), 1)

    start = network_of()
    nn.init.constant_(start.input.bias, 0.7)
    nn.init.constant_(start.output.bias, -0.7)
    before = weights(start)
    after = weights(run(flat, start, config=config(weight_decay=0.1))[0])
    assert equal(*({k: v for k, v in w.items() if k.endswith("bias")} for w in (before, after)))
    for name in ("input.weight", "output.weight"):
        assert (after[name].abs() < before[name].abs()).double().mean() > 0.9
    assert equal(before, weights(run(flat, network_of(), config=config())[0])) is False  # the biases differ
    assert equal(weights(network_of()), weights(run(flat, network_of(), config=config())[0]))


def test_the_cosine_goes_from_the_learning_rate_to_nearly_zero(monkeypatch):
    rates = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            rates.append({group["lr"] for group in self.param_groups})
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    run(config=config(schedule="cosine"))
    assert all(len(groups) == 1 for groups in rates)
    expected = [0.05 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert [groups.pop() for groups in rates] == pytest.approx(expected, rel=1e-12)
    rates.clear()
    run()
    assert rates == [{0.05}] * 12


class Scripted:
    """A watch whose metric follows a script, and which remembers the weights it saw."""

    def __init__(self, network, values, **options):
        self.network, self.values, self.seen = network, values, []
        self.watch = Watch(self.measure, "metric", **options)

    def measure(self):
        assert not self.network.training
        self.seen.append(weights(self.network))
        return {"metric": self.values[len(self.seen) - 1], "other": 0.25}


@pytest.mark.parametrize(
    ("values", "patience", "higher", "trained", "best"),
    [
        ([1, 3, 2, 2.5, 9], 2, True, 4, 2),
        ([1, 3, 2, 2.5, 9], 3, True, 5, 5),
        ([1, 3, 2, 2.5, 9], None, True, 5, 5),
        ([5, 4, 6, 4, 1], 2, False, 4, 2),
        ([3, 3, 3, 3, 3], 2, True, 3, 1),
        ([math.nan, 1, 2, math.nan, 0], None, True, 5, 3),
    ],
)
def test_patience_and_the_best_weights(values, patience, higher, trained, best):
    network = network_of()
    script = Scripted(network, values, higher_is_better=higher)
    _, record = run(network=network, config=config(epochs=5, patience=patience), watch=script.watch)
    assert len(record.epochs) == len(script.seen) == trained
    assert (record.best_epoch, record.metric) == (best, "metric")
    assert equal(weights(network), script.seen[best - 1])
    assert not any(equal(script.seen[best - 1], other) for i, other in enumerate(script.seen) if i != best - 1)
    np.testing.assert_array_equal([entry["metric"] for entry in record.epochs], values[:trained])


def test_without_a_watch_the_last_weights_are_kept():
    network, record = run(config=config(patience=1))
    assert (len(record.epochs), record.best_epoch, record.metric) == (3, None, None)
    shorter, _ = run(config=config(epochs=2))
    assert not equal(weights(network), weights(shorter))


def test_on_epoch_gets_each_entry_of_the_record():
    network = network_of()
    script = Scripted(network, [1, 2, 3])
    got = []
    _, record = run(network=network, watch=script.watch, on_epoch=lambda entry: got.append(dict(entry)))
    assert got == record.epochs
    assert [entry["epoch"] for entry in got] == [1, 2, 3]
    assert all(entry.keys() == {"epoch", "loss", "seconds", "metric", "other"} for entry in got)
    assert all(entry["seconds"] >= 0 for entry in got)


def test_a_loss_that_is_not_finite_stops_the_run():
    def exploding(network):
        inner = squared(network)
        return lambda batch, step, noise: Loss(inner(batch, step, noise).total * (math.nan if step == 5 else 1.0), 1)

    with pytest.raises(TrainingError, match=r"loss of epoch 2 is nan; lower learning_rate \(now 0.05\)"):
        run(exploding)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("schedule", "linear"),
        ("patience", 0),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} of TrainingConfig must be .*, got {value!r}"):
        config(**{name: value})


# Checkpoints


def watched(stop_in=None, **options):
    """A run with noise, a schedule and a metric that is best in epoch 2, so that all of a checkpoint is needed."""
    network = network_of(seed=options.pop("start", 0))
    values = iter([1.0, 5.0, 2.0, 3.0])
    if "first" in options:
        for _ in range(options.pop("first")):
            next(values)
    watch = Watch(lambda: {"metric": next(values)}, "metric")
    settings = config(**{"epochs": 4, "schedule": "cosine", **options.pop("settings", {})})

    def stopping(network):
        inner = noisy(network)

        def objective(batch, step, noise):
            if step == stop_in:
                raise Interrupt
            return inner(batch, step, noise)

        return objective

    return run(stopping, network, config=settings, watch=watch, **options)


def stop_at(epoch):
    def on_epoch(entry):
        if entry["epoch"] == epoch:
            raise Interrupt

    return on_epoch


@pytest.mark.parametrize("epoch", [2, 3, 4])
def test_a_run_stopped_between_epochs_ends_with_the_same_weights(tmp_path, epoch):
    file = tmp_path / "deep" / "run.safetensors"
    unbroken, record = watched()
    with pytest.raises(Interrupt):
        watched(checkpoint=file, on_epoch=stop_at(epoch))
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    got = []
    # Other initial weights and another seed would show if anything were drawn or kept instead of restored.
    resumed, again = watched(checkpoint=file, first=epoch - 1, on_epoch=got.append, start=7, seed=7)
    assert equal(weights(unbroken), weights(resumed))
    assert without_seconds(record) == without_seconds(again)
    assert (again.best_epoch, again.metric) == (2, "metric")
    assert [entry["epoch"] for entry in got] == list(range(epoch, 5))
    assert not list(file.parent.iterdir())


@pytest.mark.parametrize("step", range(1, 16))
def test_a_run_stopped_within_an_epoch_ends_with_the_same_weights(tmp_path, step):
    file = tmp_path / "run.safetensors"
    unbroken, record = watched()
    with pytest.raises(Interrupt):
        watched(stop_in=step, checkpoint=file, checkpoint_seconds=0)
    with pytest.raises(Interrupt):  # a second stop, a little later where there is a later
        watched(stop_in=min(step + 2, 15), checkpoint=file, checkpoint_seconds=0, first=step // 4)
    resumed, again = watched(checkpoint=file, first=min(step + 2, 15) // 4, start=7, seed=7)
    assert equal(weights(unbroken), weights(resumed))
    assert without_seconds(record) == without_seconds(again)
    assert not file.exists()


def test_between_epochs_no_checkpoint_is_written_before_its_time(tmp_path):
    file = tmp_path / "run.safetensors"
    with pytest.raises(Interrupt):
        watched(stop_in=3, checkpoint=file)
    assert not file.exists()


def halves(network):
    """Input layer and output layer in turns, as two players."""
    loss = noisy(network)

    def reported(batch, step, noise):
        found = loss(batch, step, noise)
        return Loss(found.total, found.count, {"twice": 2.0 * found.total, "rows": torch.tensor(float(len(batch)))})

    turns = (Turn(reported, list(network.input.parameters())), Turn(loss, list(network.output.parameters())))
    return Alternation(lambda epoch: turns)


def test_turns_move_their_own_parameters_as_optimisers_of_their_own_would():
    network = network_of()
    run(halves, network, config=config(epochs=2))
    # By hand: two Adams over the same draws.
    other, generator = network_of(), torch.Generator().manual_seed(1)
    seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(2)]
    order_rng, noise = (torch.Generator().manual_seed(seed) for seed in seeds)
    parts = (other.input, other.output)
    optimisers = [torch.optim.Adam(part.parameters(), lr=SETTINGS.learning_rate) for part in parts]
    rows, objective = Rows(MATRIX), noisy(other)
    for _ in range(2):
        for batch in rows.batches(torch.randperm(13, generator=order_rng).split(4)):
            for optimiser in optimisers:
                other.zero_grad()
                (objective(batch, 0, noise).total / len(batch)).backward()
                optimiser.step()
    for name, tensor in weights(network).items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_loss_is_the_first_turns_and_parts_are_means_too():
    _, record = run(halves, config=config(epochs=2))
    for entry in record.epochs:
        assert list(entry) == ["epoch", "loss", "twice", "rows", "seconds"]
        assert entry["twice"] == pytest.approx(2 * entry["loss"], rel=1e-6)
        assert entry["rows"] == pytest.approx(13 / MATRIX.nnz)


def test_turns_may_change_from_epoch_to_epoch_and_what_does_not_move_keeps_still():
    network, seen = network_of(), []
    both = halves(network).turns(0)

    def turns(epoch):
        seen.append((epoch, network.input.weight.detach().clone(), network.output.weight.detach().clone()))
        return both[epoch % 2 :][:1]

    run(lambda _: Alternation(turns), network)
    assert [epoch for epoch, _, _ in seen] == [0, 1, 2]
    assert not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[0][2], seen[1][2])
    assert torch.equal(seen[1][1], seen[2][1])
    assert not torch.equal(seen[1][2], seen[2][2])


def test_a_frozen_parameter_stays_frozen_through_turns():
    network = network_of()
    network.output.bias.requires_grad_(False)
    before = network.output.bias.clone()
    run(halves, network)
    assert torch.equal(network.output.bias, before)
    assert not network.output.bias.requires_grad


def test_interrupted_turns_continue_to_the_same_weights(tmp_path):
    unbroken, first = run(halves)
    with pytest.raises(Interrupt):
        run(halves, checkpoint=tmp_path / "c", on_epoch=stop_at(2))
    resumed, second = run(halves, checkpoint=tmp_path / "c")
    assert equal(weights(unbroken), weights(resumed))
    assert without_seconds(first) == without_seconds(second)


def test_a_network_with_an_idle_parameter_resumes_exactly(tmp_path):
    class Idle(AutoRecNetwork):
        def __init__(self):
            super().__init__(MATRIX.shape[1], 3, torch.Generator().manual_seed(0))
            self.input.idle = nn.Parameter(torch.zeros(2, 2))  # never gets a gradient, so Adam holds nothing for it

    unbroken, _ = run(noisy, Idle())
    with pytest.raises(Interrupt):
        run(noisy, Idle(), checkpoint=tmp_path / "c", on_epoch=stop_at(2))
    resumed, _ = run(noisy, Idle(), checkpoint=tmp_path / "c")
    assert equal(weights(unbroken), weights(resumed))


def interrupted(file, **options):
    with pytest.raises(Interrupt):
        run(checkpoint=file, on_epoch=stop_at(2), **options)
    return file.read_bytes()


def flipped(place):
    """A byte at a share of the way through the file is another."""

    def change(content):
        at = min(int(place * len(content)), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"[]",
        lambda b: b"",
        lambda b: bytes(len(b)),
        lambda b: b[:7],
        lambda b: b[:60],
        lambda b: b[: len(b) // 2],
        lambda b: b[:-1],
        *map(flipped, (0, 0.001, 0.004, 0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1)),
    ],
)
def test_from_a_damaged_checkpoint_a_training_begins_anew_and_says_so(tmp_path, damage):
    file = tmp_path / "run.safetensors"
    unbroken, record = run()
    file.write_bytes(damage(interrupted(file)))
    with pytest.warns(DataWarning, match=r"the checkpoint .*run\.safetensors is damaged .*; the training begins anew$"):
        network, again = run(checkpoint=file)
    assert equal(weights(network), weights(unbroken))
    assert without_seconds(again) == without_seconds(record)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_without_a_checksum_is_of_an_earlier_version(tmp_path):
    file = tmp_path / "run.safetensors"
    interrupted(file)
    with safe_open(file, "pt") as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        metadata = {name: text for name, text in content.metadata().items() if name != "checksum"}
    save_file(tensors, file, metadata)
    with pytest.warns(DataWarning, match="was written by an earlier version, without a checksum; the training begins"):
        network, _ = run(checkpoint=file)
    assert equal(weights(network), weights(run()[0]))


@pytest.mark.parametrize("content", [b"not a checkpoint" * 9, b"a thesis, " * 200_000])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content):
    file = tmp_path / "run.safetensors"
    file.write_bytes(content)
    with pytest.raises(TrainingError, match=r"run\.safetensors cannot be read: it is a file of something else"):
        run(checkpoint=file)
    assert file.read_bytes() == content
    with pytest.raises(TrainingError, match="is not a file; remove it or choose another path"):
        run(checkpoint=tmp_path)


@pytest.mark.parametrize(
    "problem",
    [
        OSError(28, "No space left on device"),
        PermissionError(13, "no"),
        OSError(30, "Read-only"),
        SafetensorError("I/O"),
    ],
    ids=["ENOSPC", "EACCES", "EROFS", "safetensors"],
)
def test_a_checkpoint_that_cannot_be_written_ends_no_training(tmp_path, monkeypatch, problem):
    from recsys.training import checkpoint

    file, calls = tmp_path / "run.safetensors", []

    def full(tensors, path, metadata):
        calls.append(path)
        path.write_bytes(b"half of it")
        if len(calls) in (1, 2):
            raise problem
        save_file(tensors, path, metadata)
        assert {other.name for other in tmp_path.iterdir()} <= {path.name, file.name}  # nothing is left of the others

    monkeypatch.setattr(checkpoint, "save_file", full)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        network, record = run(checkpoint=file, config=config(epochs=5))
    assert len(calls) == 4
    assert [str(w.message).partition(" (")[0] for w in told] == [f"the checkpoint {file} could not be written"]
    unbroken, again = run(config=config(epochs=5))
    assert equal(weights(network), weights(unbroken))
    assert without_seconds(record) == without_seconds(again)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_of_a_checkpoint_is_removed(tmp_path):
    file = tmp_path / "run.safetensors"
    (tmp_path / ".run.recsys-0123abcd.safetensors").write_bytes(b"half of it")
    (tmp_path / ".run.recsys-0123abcd.txt").write_bytes(b"mine")
    run(checkpoint=file, config=config(epochs=1))
    assert [path.name for path in tmp_path.iterdir()] == [".run.recsys-0123abcd.txt"]


def test_another_kind_of_safetensors_file_is_refused(tmp_path):
    save_file({"network.x": torch.zeros(2)}, tmp_path / "weights")
    with pytest.raises(TrainingError, match="cannot be read"):
        run(checkpoint=tmp_path / "weights")


OTHER_VALUES = MATRIX.copy()
OTHER_VALUES.data[0] += 1


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"config": config(batch_size=5)}, "batch_size"),
        ({"config": config(learning_rate=0.1, epochs=4)}, "epochs, learning_rate"),
        ({"matrix": MATRIX[:12]}, "data"),
        ({"matrix": OTHER_VALUES}, "data"),
        ({"network": network_of(hidden=4)}, "network"),
        ({"identity": {"model": "another"}}, "model"),
        ({"watch": Watch(lambda: {"x": 1.0}, "x")}, "metric"),
    ],
    ids=["batch", "two", "rows", "values", "network", "model", "metric"],
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, options, differs):
    file = tmp_path / "run.safetensors"
    kept = interrupted(file)
    with pytest.raises(TrainingError, match=rf"belongs to another run \(differs in {differs}\)"):
        run(checkpoint=file, **options)
    assert file.read_bytes() == kept


@pytest.mark.parametrize(("patience", "warns"), [(3, True), (24, True), (25, False), (None, False)])
def test_patience_that_met_too_few_steps_says_so(patience, warns):
    values = iter([0.5, *[0.1] * 60])
    watch = Watch(lambda: {"quality": next(values)}, "quality")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, record = run(config=config(epochs=40, patience=patience), watch=watch)  # 13 rows: 4 steps an epoch
    waited = 0 if patience is None else 4 * patience
    assert len(record.epochs) == (40 if patience is None else patience + 1)
    assert [str(warning.message) for warning in caught] == [
        f"patience = {patience} ended the training after epoch {len(record.epochs)}: it waited for {waited} steps, "
        "4 an epoch at batch_size = 4, too few to tell that it gets no better; give patience = 25 or a smaller "
        "batch_size"
    ] * warns
