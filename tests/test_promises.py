"""What the README promises, and the test of each promise: none stands there without one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())

# The promise in the README's words; the tests that would fail if it were broken.
PROMISES: dict[str, list[str]] = {
    "every logger shows, layer by layer and epoch by epoch": [
        "trainer/test_loggers.py::test_several_loggers_at_once",
        "trainer/test_loggers.py::test_a_logger_of_the_users_own",
    ],
    "0 for no more than chance, 1 for a copy": [
        "measurement/test_adjusted.py::test_noise_of_any_dimension_has_nothing",
        "measurement/test_adjusted.py::test_a_copy_has_all_of_the_input",
    ],
    "`lightning` and `pytorch_lightning`": ["callback/test_cli.py::test_both_packages_give_the_same_numbers"],
    '`ModelCheckpoint(monitor="AMI_TY/conv3")` works': [
        "callback/test_callback.py::test_model_checkpoint_monitors_a_key"
    ],
    "with epochs counted as finished ones (0 is before training)": [
        "callback/test_callback.py::test_event_files_hold_every_key_at_step_0_and_after_every_epoch"
    ],
    "`infoplane.csv` in the run's log directory": [
        "callback/test_callback.py::test_with_a_logger_table_and_pictures_are_in_its_directory"
    ],
    "every layer has its own colour in TensorBoard": [
        "test_browser.py::test_each_layer_has_a_colour_of_its_own_in_its_sub_run"
    ],
    "is a warning otherwise, and training goes on": [
        "callback/test_faults.py::test_a_failure_on_one_rank_ends_the_measurement_on_all_and_no_run",
        "callback/test_never_in_the_way.py::test_a_logger_that_raises_is_a_warning",
    ],
    "goes on, and marks the change in the history": [
        "callback/test_resume.py::test_a_checkpoint_of_a_run_with_other_layers"
    ],
    "send a large probe through the network in pieces, forward and backward": [
        "test_monitor.py::test_pieces_give_the_numbers_of_the_whole",
        "network/test_gradients.py::test_pieces_of_the_probe_give_the_same_errors",
    ],
    "to run several callbacks side by side": ["callback/test_callback.py::test_several_instances_side_by_side"],
    "A name that matches nothing is an error that lists the closest ones": [
        "network/test_layers.py::test_a_misspelt_name_lists_the_closest_ones_and_the_convolutions"
    ],
    "Layers appear in the order in which the network calls them": [
        "network/test_activations.py::test_outputs_are_handed_on_in_order_of_execution"
    ],
    "a module called twice shows up again as `name.call2`": [
        "network/test_chains.py::test_a_module_called_twice_is_two_layers"
    ],
    "there is no adjusted information where H(T) is above 95 % of log2 n": [
        "measurement/test_values.py::test_what_is_saturated_has_no_adjusted_information"
    ],
    "stratified by class": ["trainer/test_data.py::test_the_probe_is_stratified"],
    "larger than 0.01 and significant after Holm's correction over all pairs": [
        "callback/test_everything.py::test_increases_and_decreases_are_counted_by_size_and_significance"
    ],
    "Targets are never X": [
        "callback/test_any_network.py::test_the_line_at_the_start_says_x_y_and_the_call",
    ],
    "X of a text model is the output of its embedding layer": [
        "callback/test_any_network.py::test_x_of_a_token_model_is_its_embedding_at_the_start",
        "callback/test_any_network.py::test_a_resumed_token_model_keeps_its_x",
    ],
    "it was tried before it is suggested": [
        "callback/test_any_network.py::test_the_printed_sentence_pasted_makes_it_work",
    ],
    "pooled layers seldom form chains": [
        "callback/test_any_network.py::test_tokens_are_read_as_is_wanted_and_pooled_ones_screen_only_what_comes_from_them"
    ],
    "only pairs are logged where every way from the input to b leads through a": [
        "callback/test_everything.py::test_markov_pairs_are_those_of_the_graph"
    ],
    "Nothing is clipped, so that you can see it": [
        "estimator/test_information.py::test_the_functional_is_not_subadditive_and_nothing_is_clipped",
        "measurement/test_values.py::test_adjusted_information_is_never_clipped",
    ],
    "at 1.01 it stays within 3e-4 bits of what theory allows": [
        "estimator/test_information.py::test_negative_values_stay_small_at_the_papers_order"
    ],
    "bit for bit what they would be": [
        "callback/test_undisturbed.py::test_a_run_is_the_same_with_and_without_the_callback",
        "test_monitor.py::test_the_network_is_left_bit_for_bit",
    ],
    "and so is what your modules hold in Python": [
        "callback/test_stateful.py::test_a_network_with_state_is_the_same_with_and_without_the_callback"
    ],
    "also where a measurement fails": [
        "callback/test_undisturbed.py::test_an_exception_in_a_measurement_leaves_no_trace",
        "callback/test_stateful.py::test_a_network_that_fails_on_the_probe_goes_on_as_if_it_had_not_been_asked",
    ],
    "The probe is drawn in another process": [
        "callback/test_drawn_elsewhere.py::test_a_run_is_the_one_without_the_callback",
        "callback/test_drawn_elsewhere.py::test_where_it_cannot_be_drawn_elsewhere_that_is_said_once",
    ],
    "and the end of training says so": ["callback/test_callback.py::test_the_cost_is_told_at_the_end"],
    "with its error logged": ["callback/test_callback.py::test_gaps_of_an_approximate_solver_carry_its_error"],
    "Products in full float32": ["estimator/test_precision.py::test_inside_products_are_float32"],
    "one HTML file with pictures, tables and verdicts": [
        "views/test_page.py::test_it_is_valid_small_and_stands_alone",
        "test_browser.py::test_the_report_opens_from_disk",
    ],
    "checkpoints of a run that was made without the callback": [
        "test_monitor_checkpoints.py::test_rows_are_those_logged_in_the_run"
    ],
    "plain functions on tensors, differentiable, in bits": [
        "estimator/test_grams.py::test_gradients_are_those_of_the_definition",
        "estimator/test_entropy.py::test_gradient_of_the_entropy",
    ],
}


@pytest.mark.parametrize("promise", PROMISES)
def test_the_promise_is_in_the_readme(promise: str) -> None:
    assert promise in README


@pytest.mark.parametrize("where", sorted({one for tests in PROMISES.values() for one in tests}))
def test_there_is_a_test_of_it(where: str) -> None:
    path, _, name = where.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_promise_is_without_a_test() -> None:
    assert [promise for promise, tests in PROMISES.items() if not tests] == []
