from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def notify(pipeline: str, webhook: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Sends a run's final state to a webhook; does nothing without one.

    Args:
        pipeline: name of the run in the message.
        webhook: an http(s) URL; empty takes POSEWATCH_WEBHOOK, where the cluster's secret has one.
        status: the run's final state, filled in by the engine.
    """
    import os

    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.stages.notify import notify as stage

    run = os.environ.get("POSEWATCH_RUN", "")
    workflow = status.pipeline_job_resource_name or ""
    stage(webhook, pipeline, status.state, workflow, status.error_message or "", run=run)
