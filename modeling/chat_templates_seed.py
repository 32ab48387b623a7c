"""Jinja templates of a chat, one for each format. `<image>` stands for an image; bos is left out.

`{% generation %}` marks what the assistant says: everything that the model writes after the generation prompt.
"""

# An image and text are a question, an image alone asks for a caption.
SEED_CHAT = """\
{%- set state = namespace(image=false, asked=true, start=true) -%}
{%- for message in messages -%}
{%- set parts = message["content"] -%}
{%- if parts is string -%}
{%- set parts = [{"type": "text", "text": parts}] -%}
{%- endif -%}
{%- set asks = message["role"] != "assistant" -%}
{%- if not asks and not state.asked -%}
{{- "CAPTION" -}}
{%- endif -%}
{%- for part in parts -%}
{%- if part["type"] == "image" -%}
{%- if asks -%}
<image>
{%- else -%}
{%- generation -%}
<image>
{%- endgeneration -%}
{%- endif -%}
{%- set state.image = true -%}
{%- set state.asked = false -%}
{%- set state.start = false -%}
{%- elif part["type"] == "text" and not asks -%}
{%- generation -%}
{{- part["text"] if state.start else " " ~ part["text"] -}}
{%- endgeneration -%}
{%- set state.start = false -%}
{%- endif -%}
{%- endfor -%}
{%- set text = parts | selectattr("type", "equalto", "text") | map(attribute="text") | join(" ") -%}
{%- if asks and text -%}
{%- if state.image -%}
{{- "QUESTION_BEFORE" ~ text ~ "QUESTION_AFTER" -}}
{%- else -%}
{{- text if state.start else " " ~ text -}}
{%- endif -%}
{%- set state.start = false -%}
{%- endif -%}
{%- if text or not asks -%}
{%- set state.asked = true -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not state.asked -%}
{{- "CAPTION" -}}
{%- endif -%}
"""

# What every turn has in the formats of SEED-LLaMA: texts and images as they come.
_CONTENT = """\
{%- macro content(message) -%}
{%- if message["content"] is string -%}
{{- message["content"] -}}
{%- else -%}
{%- for part in message["content"] -%}
{%- if part["type"] == "image" -%}
<image>
{%- elif part["type"] == "text" -%}
{{- part["text"] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
"""
PLAIN_CHAT = (
    _CONTENT
    + """\
{%- if message["role"] == "assistant" -%}
{%- generation -%}
{{- content(message) -}}
{%- endgeneration -%}
{%- else -%}
{{- content(message) -}}
{%- endif -%}
{%- endfor -%}
"""
)
VICUNA_CHAT = (
    _CONTENT
    + """\
{%- if message["role"] == "system" -%}
{{- content(message) ~ "\\n" -}}
{%- elif message["role"] == "assistant" -%}
{{- "ASSISTANT:" -}}
{%- generation -%}
{{- " " ~ content(message) -}}
{%- endgeneration -%}
{{- "\\n" -}}
{%- else -%}
{{- "USER: " ~ content(message) ~ "\\n" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- "ASSISTANT:" -}}
{%- endif -%}
"""
)
LLAMA2_CHAT = (
    _CONTENT
    + """\
{%- if message["role"] == "system" -%}
{{- "<<SYS>>\\n" ~ content(message) ~ "\\n<</SYS>>\\n\\n" -}}
{%- elif message["role"] == "assistant" -%}
{%- generation -%}
{{- content(message) -}}
{%- endgeneration -%}
{{- "\\n" -}}
{%- else -%}
{{- "[INST] " ~ content(message) ~ " [/INST]\\n" -}}
{%- endif -%}
{%- endfor -%}
"""
)


__all__ = ["LLAMA2_CHAT", "PLAIN_CHAT", "SEED_CHAT", "VICUNA_CHAT"]
