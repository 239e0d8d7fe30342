"""Decides by the option `resume` which recordings another handler can continue. Pure."""

from dataclasses import dataclass

from openegress.core import plan as parts
from openegress.core.codecs import Container
from openegress.core.errors import unimplemented
from openegress.core.render import Render
from openegress.request.options import Options


@dataclass(frozen=True, slots=True)
class ResumeChoice:
    """What happens to a recording when its handler dies, and the outputs that make that possible."""

    outputs: tuple[parts.Output, ...]
    render: Render
    resumes: bool
    notices: tuple[str, ...] = ()


def choice_of(
    every: Options, asked: Options, outputs: tuple[parts.Output, ...], render: Render
) -> ResumeChoice:
    """The choice for a recording into `outputs`. Outputs that only the configuration or the room asks for
    give way to a request for `resume` if they cannot be continued. Raises EgressError like end_rules()."""
    if not every.resume:
        return ResumeChoice(outputs, render, resumes=False)
    notices = []
    if asked.resume:
        for each in outputs:
            why, option = _why_not_resumed(each, outputs)
            if why and not getattr(asked, option):
                outputs = tuple(other for other in outputs if other is not each)
                notices.append(f"resume leaves out {why}, which the request does not ask for")
        if render is Render.DEFERRED and asked.render is not Render.DEFERRED:
            render = Render.LIVE
            notices.append("resume leaves out render=deferred, which the request does not ask for")
    cannot = next((why for each in outputs if (why := _why_not_resumed(each, outputs)[0])), "")
    if render is Render.DEFERRED:
        cannot = "a recording whose picture is composed after it"
    if cannot and asked.resume:
        raise unimplemented(f"resume of {cannot}")
    return ResumeChoice(outputs, render, not cannot, tuple(notices))


def _why_not_resumed(output: parts.Output, outputs: tuple[parts.Output, ...]) -> tuple[str, str]:
    """What prevents a continuation, and the option that asks for it; "": nothing does."""
    match output:
        case parts.TracksFile() if _has_parts(outputs[0]):
            return "a tracks_file beside a file that is not an MP4", "tracks_file"
        case parts.ImageOutput(sheet=parts.Sheet()):
            return "a storyboard", "storyboard"
        case _:
            return "", ""


def _has_parts(output: parts.Output) -> bool:
    """Whether a continuation would need another file."""
    if isinstance(output, parts.TracksFile) or not isinstance(output, parts.FileOutput):
        return False
    return output.split is not None or output.container is not Container.MP4
