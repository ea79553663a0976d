from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def report(
    store: str,
    evaluation: str,
    bench: str,
    scores: str,
    smoke: str,
    about: str,
    persons: str,
    page: dsl.Output[dsl.HTML],
) -> str:
    """Gathers pictures, curves, figures and lineage of a run in one HTML page.
    On a laptop: ``posewatch report --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        evaluation: URI of an evaluation.
        bench: URI of a benchmark.
        scores: URI of the predictions of unlabelled clips.
        smoke: URI of a smoke test.
        about: a remark for the report on where the videos come from.
        persons: URI of videos masked person by person, to show one moment of; empty for none.
    """
    from pathlib import Path

    from posewatch.stages.run import step

    run = step(store)
    from posewatch.stages.report import report as stage

    parents = [run.artifact(uri) for uri in (evaluation, bench, scores, smoke)]
    html = stage(run.objects, *parents, about=about, persons=run.artifact(persons) if persons else None)
    Path(page.path).write_bytes(html.read("report.html"))
    return html.uri
