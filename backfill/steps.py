"""The backfill's Beam pipeline in words: its steps, and the SQL by which the events of views are projected."""

from __future__ import annotations

from apache_beam import Pipeline
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from unskew.pipelines.backends.beam import expand
from unskew.pipelines.backends.beam_sql import Job, projection_sql
from unskew.pipelines.plan import SetPlan


class Steps(PipelineVisitor):  # type: ignore[misc]
    """Collects the steps of a pipeline's first level, in the order of the data."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        """Note a composite step."""
        self.note(node)

    def visit_transform(self, node: AppliedPTransform) -> None:
        """Note a plain step."""
        self.note(node)

    def note(self, node: AppliedPTransform) -> None:
        """Keep the label of a step that is not inside another one."""
        if node.full_label and "/" not in node.full_label:
            inputs = ", ".join(
                sorted(
                    {str(each.producer.full_label).split("/", maxsplit=1)[0] for each in node.inputs if each.producer}
                )
            )
            self.names.append(f"{node.full_label}" + (f"  <- {inputs}" if inputs else ""))


def pipeline_steps(plan: SetPlan) -> str:
    """Return the pipeline of a set as text for review."""
    job = Job(plan, "OUTPUT")
    pipeline = Pipeline()
    expand(pipeline, job, [], [])
    steps = Steps()
    pipeline.visit(steps)
    queries = [
        f"-- {', '.join(view.name for view in group.views)}\n{projection_sql(job, group)}" for group in job.groups
    ]
    return "\n".join([*steps.names, "", *queries])
