"""What is written of a study; `record.py` reads it, and no one else knows the keys."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optuna import Study

from dsaccel.config.study import StudyConfig
from dsaccel.data.batches import Data
from dsaccel.parts import foreign_parts
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.provenance import provenance
from dsaccel.study.record import SCHEMA, CohortRecord
from dsaccel.training.arithmetic import arithmetic
from dsaccel.training.crew import Crew
from dsaccel.training.run import Run


def write_beginning(study: Study, config: StudyConfig, data: Data) -> None:
    """What a study goes on with: its settings, and what its accuracies are measured on."""
    study.set_user_attr("schema", SCHEMA)
    study.set_user_attr("fingerprint", data.fingerprint)
    study.set_user_attr("arithmetic", arithmetic(data.device, config.runtime.threads))
    study.set_user_attr("num_val", data.num_val)
    study.set_user_attr("num_classes", data.num_classes)
    study.set_user_attr("step_name", config.training.step_name)
    study.set_user_attr("data_notes", list(data.notes))
    study.set_user_attr("parts", [asdict(part) for part in foreign_parts(config)])
    study.set_user_attr("environment", provenance(config, data))
    study.set_user_attr("config", config.model_dump(mode="json"))


def write_cohort(study: Study, cohort: CohortRecord) -> None:
    """A cohort before it is trained, and as the last thing when all else of it is written."""
    study.set_user_attr("cohort", asdict(cohort) | {"asked": list(map(str, cohort.asked))})


def write_crew(study: Study, crew: Crew) -> None:
    """Record who has trained the last cohort."""
    study.set_user_attr("crew", {"workers": len(crew.names), "summary": crew.line()})


def write_baseline(study: Study, hierarchy: Hierarchy, reached: Mapping[str, Any]) -> None:
    """What back-propagation has reached with a hierarchy."""
    others = study.user_attrs.get("global", {})
    study.set_user_attr("global", {**others, str(hierarchy): reached})


def write_winner(study: Study, hierarchy: Hierarchy) -> None:
    """Record that the hierarchy, which is trained by back-propagation, is the study's baseline."""
    reached = study.user_attrs["global"][str(hierarchy)]
    study.set_user_attr("baseline", {"hierarchy": str(hierarchy), **reached})


def write_confirmation(study: Study, record: Mapping[str, Any]) -> None:
    """What a confirmation has come to."""
    study.set_user_attr("confirmation", record)


def add_readings(study: Study, readings: Sequence[Mapping[str, Any]]) -> None:
    """Looks at the test split, after those before."""
    known = study.user_attrs.get("test_readings") or []
    study.set_user_attr("test_readings", [*known, *readings])


def add_time(study: Study, time_s: float) -> None:
    """One run's."""
    study.set_user_attr("time_s", study.user_attrs.get("time_s", 0.0) + time_s)


def begun(
    hierarchy: Hierarchy,
    cohort: int,
    place: int,
    *,
    is_reference: bool = False,
    is_feasible: bool = True,
    is_harvested: bool = False,
) -> dict[str, Any]:
    """A trial's attributes when it begins."""
    marks = {"reference": is_reference, "harvested": is_harvested}
    return {
        "hierarchy": str(hierarchy),
        "cohort": cohort,
        "place": place,
        **{name: True for name, is_set in marks.items() if is_set},
        **({} if is_feasible else {"feasible": False}),
    }


def reached(run: Run, hierarchy: Hierarchy, plan: Plan) -> dict[str, Any]:
    """A trial's attributes when it ends, but for its heads."""
    read = run.history[-1].read.get(hierarchy)
    # a sequential trial that is pruned has not been trained to its exit
    objective = None if read is None else read.objective
    diverged = run.diverged(hierarchy)
    return {
        **({} if objective is None else {"val_accuracy": objective}),
        **({} if read is None else {"exits": dict(read.exits)}),
        **({} if diverged is None else {"diverged": asdict(diverged)}),
        "head_stages": plan.head_stages,
        "num_parameters": plan.num_parameters,
        "flops": plan.flops,
        "num_local_losses": plan.num_local_losses,
        "num_units": plan.num_units,
        "gradient_path": plan.gradient_path,
        "shallow_scale": plan.shallow_scale,
        "time_s": run.time_s[hierarchy],
        "alone_s": run.alone_s[hierarchy],
        "epochs_trained": run.epochs_trained(hierarchy),
    }


def has_diverged(attributes: Mapping[str, Any]) -> bool:
    """Whether a trial with these attributes must not be called the best by Optuna either."""
    return "diverged" in attributes
