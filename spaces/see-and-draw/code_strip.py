"""The codes of an image as a strip of coloured cells."""

import gradio as gr


# Dark numbers on light colours, on light and dark pages. The hues of consecutive codes are a golden angle apart.
_HTML = """
<ol class="codes" aria-label="${label}">${(value.codes || []).map((code, place) => {
  const used = place < value.used;
  const classes = [used ? "" : "unused", value.changed.includes(place) ? "changed" : ""].join(" ");
  const about = `place ${place + 1}, code ${code}` + (used ? "" : ", not used");
  const colour = `background: hsl(${(code * 137.508) % 360} 70% ${72 + (code % 3) * 6}%)`;
  return editable
    ? `<li><button type="button" class="${classes}" style="${colour}" data-place="${place}" aria-label="${about}"
         title="${about}" aria-pressed="${place === value.selected}">${code}</button></li>`
    : `<li><span class="${classes}" style="${colour}" title="${about}">${code}</span></li>`;
}).join("")}</ol>
"""

_CSS = """
ol.codes.codes { display: grid; grid-template-columns: repeat(16, 1fr); gap: 4px;
         list-style: none; margin: 0; padding: 2.3rem .7rem .7rem; }
@media (max-width: 700px) { ol.codes.codes { grid-template-columns: repeat(8, 1fr); gap: 3px; } }
ol.codes.codes li { margin: 0; padding: 0; list-style: none; }
.codes button, .codes span { display: block; box-sizing: border-box; width: 100%; padding: .45rem 0; border: 0;
         border-radius: 5px; color: #14181f; text-align: center;
         font: 600 .78rem/1.2 ui-monospace, "DejaVu Sans Mono", monospace; }
.codes button { cursor: pointer; min-height: 2.4rem; }
.codes .changed { text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px; }
.codes .unused { opacity: .45; }
.codes button[aria-pressed="true"] { outline: 3px solid var(--body-text-color); outline-offset: -1px; }
.codes button:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 1px; }
"""

# The arrow keys move from cell to cell, too: with the tab key alone that would take 32 stops.
_JS = """
const cells = () => [...element.querySelectorAll("button[data-place]")];
let returning = false;
element.addEventListener("click", (event) => {
  const cell = event.target.closest("button[data-place]");
  if (!cell) return;
  returning = true;
  trigger("select", { index: Number(cell.dataset.place) });
});
element.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const all = cells(), here = all.indexOf(document.activeElement);
  if (!step || here < 0) return;
  event.preventDefault();
  all[(here + step + all.length) % all.length].focus();
});
watch("value", () => {
  if (returning) element.querySelector("button[aria-pressed=true]")?.focus();
  returning = false;
});
"""


class CodeStrip(gr.HTML):
    """One cell for each code, with its number and colour. If `editable`, each cell is a button that sends `select`.

    Its value comes from [`strip`].
    """

    def __init__(self, value: dict | None = None, *, label: str, editable: bool = False, **settings):
        super().__init__(
            value or strip([]),
            label=label,
            html_template=_HTML,
            css_template=_CSS,
            js_on_load=_JS,
            apply_default_css=False,
            editable=editable,
            show_label=True,
            container=True,
            **settings,
        )


def strip(codes: list[int], *, selected: int | None = None, used: int | None = None, changed=()) -> dict:
    """The value of a [`CodeStrip`].

    Args:
        codes: One for each place.
        selected: The place that is edited.
        used: The number of places, from the first on, that are drawn from. Default: all.
        changed: Places whose code was edited.
    """
    used = len(codes) if used is None else used
    return {"codes": list(codes), "selected": selected, "used": used, "changed": list(changed)}
