"""Writes chat_templates.json: conversations rendered by Jinja2, set up as Hugging Face transformers sets it
up for chat templates (without a clock), with the templates of the shared test data and the embedded models.

    python3 -m venv env && env/bin/pip install jinja2==3.1.6
    env/bin/python make_chat_templates.py ../../../shared/data/tokenizers

Messages are as runtime/model.ts has them; tool-call arguments that are JSON objects are parsed for templates.
"""

import json
import os
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = sys.argv[1].rstrip("/") + "/"
HERE = os.path.dirname(os.path.abspath(__file__))

# name -> where the template is, and the texts of the special tokens it may use
TEMPLATES = {
    "Qwen2.5-7B-Instruct": {"file": "chat-templates/Qwen-Qwen2.5-7B-Instruct.jinja", "bos": "", "eos": "<|im_end|>"},
    "Llama-3.2-3B-Instruct": {"file": "chat-templates/meta-llama-Llama-3.2-3B-Instruct.jinja",
                              "bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
    "gemma-2-2b-it": {"file": "chat-templates/google-gemma-2-2b-it.jinja", "bos": "<bos>", "eos": "<eos>"},
    "Phi-3.5-mini-instruct": {"file": "chat-templates/microsoft-Phi-3.5-mini-instruct.jinja", "bos": "<s>", "eos": "<|endoftext|>"},
    "qwen2.5": {"config": "qwen2.5/tokenizer_config.json", "bos": "", "eos": "<|im_end|>"},
    "qwen3": {"config": "qwen3/tokenizer_config.json", "bos": "", "eos": "<|im_end|>"},
    "phi-3": {"config": "phi-3/tokenizer_config.json", "bos": "<s>", "eos": "<|endoftext|>"},
}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, *calls):
    tool_calls = [{"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
                  for i, (name, arguments) in enumerate(calls)]
    return {"role": "assistant", "content": text, **({"toolCalls": tool_calls} if calls else {})}


def tool(text, call="call_0"):
    return {"role": "tool", "content": text, "toolCallId": call}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place, \"now\" & <here>",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "größe-x": {"type": "integer", "minimum": 0}},
                   "required": ["place"]}}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
PLACE = '{"place": "Zürich", "größe-x": 3}'

CASES = {
    "one user turn": {"messages": [user("Hello!")]},
    "no generation prompt": {"messages": [user("Hello!")], "addGenerationPrompt": False},
    "system and user": {"messages": [system("Be brief."), user("Hello!")]},
    "several turns": {"messages": [user("Hi"), assistant("Hello."), user("2+2?"), assistant("4"), user("Thanks")]},
    "ends with assistant": {"messages": [user("Hi"), assistant("Hello.")], "addGenerationPrompt": False},
    "white space": {"messages": [system("  be brief\n"), user("\n  Hi \t\n"), assistant("  yes\n\n"), user("")]},
    "awkward characters": {"messages": [user("\"quotes\" 'single' \\ back\tTab é 🙂 {{ x }} {% y %} <b>&amp;</b>")]},
    "two system turns": {"messages": [system("One."), user("Hi"), assistant("Yes"), system("Two."), user("Go on")]},
    "control tokens in contents": {"messages": [
        system("<|im_end|><|eot_id|><|end|><end_of_turn>"), user("<|im_start|>system\nx<|im_end|></s><bos><|begin_of_text|>")]},
    "roles out of order": {"messages": [assistant("Hello"), user("Hi"), user("again")]},
    "tools": {"messages": [user("Weather in Zürich?")], "tools": [WEATHER, TIME]},
    "tools and system": {"messages": [system("Be brief."), user("Weather in Zürich?")], "tools": [WEATHER]},
    "tool call": {"messages": [user("Weather?"), assistant(None, ("get_weather", PLACE)), tool("{\"c\": 21}")], "tools": [WEATHER]},
    "tool call with text": {"messages": [
        user("Weather?"), assistant("Let me see.", ("get_weather", PLACE)), tool("21"), assistant("21 degrees."), user("Thanks")],
        "tools": [WEATHER]},
    "two tool calls": {"messages": [
        user("Both?"), assistant("", ("get_weather", PLACE), ("get_time", "{}")), tool("21"), tool("noon", "call_1")], "tools": [WEATHER]},
    "arguments that are no JSON": {"messages": [user("Weather?"), assistant(None, ("get_weather", "{place"))], "tools": [WEATHER]},
    "tool call without tools": {"messages": [user("Weather?"), assistant(None, ("get_time", "{}")), tool("noon")]},
    "thinking": {"messages": [user("1+1?"), assistant("<think>\n\none and one \n\n</think>\n\n2"), user("2+2?")]},
    "thinking in the last turn": {"messages": [user("1+1?"), assistant("<think>\n one \n</think>\n\n2")], "addGenerationPrompt": False},
    "thinking off": {"messages": [user("1+1?")], "kwargs": {"enable_thinking": False}, "only": ["qwen3"]},
    "date": {"messages": [user("Date?")], "kwargs": {"date_string": "1 Jan 2030"}, "only": ["Llama-3.2-3B-Instruct"]},
    "tools in system": {"messages": [system("Be brief."), user("Hi")], "tools": [TIME], "kwargs": {"tools_in_user_message": False},
                        "only": ["Llama-3.2-3B-Instruct"]},
    "tool response in user turn": {"messages": [user("<tool_response>\nx\n</tool_response>"), assistant("a"), user("b")]},
}


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
ENVIRONMENT.filters["tojson"] = tojson
ENVIRONMENT.globals["raise_exception"] = raise_exception


def template_message(message):
    result = {"role": message["role"], "content": message["content"]}
    if "toolCalls" in message:
        result["tool_calls"] = [{**call, "function": {**call["function"], "arguments": parsed(call["function"]["arguments"])}}
                                for call in message["toolCalls"]]
    if "toolCallId" in message:
        result["tool_call_id"] = message["toolCallId"]
    return result


def parsed(arguments):
    try:
        value = json.loads(arguments)
    except json.JSONDecodeError:
        return arguments
    return value if isinstance(value, dict) else arguments


def render(template, spec, case):
    try:
        return {"text": template.render(
            messages=[template_message(message) for message in case["messages"]], tools=case.get("tools"),
            add_generation_prompt=case.get("addGenerationPrompt", True), bos_token=spec["bos"], eos_token=spec["eos"],
            **case.get("kwargs", {}))}
    except Exception as error:  # what a template raises, or runs into
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    with open(HERE + "/chat_templates.json", "w", encoding="utf-8") as out:
        results = {}
        for name, spec in TEMPLATES.items():
            path = ROOT + spec.get("file", spec.get("config", ""))
            source = open(path, encoding="utf-8").read()
            template = ENVIRONMENT.from_string(json.loads(source)["chat_template"] if "config" in spec else source)
            results[name] = {"spec": spec, "results": {
                title: render(template, spec, case) for title, case in CASES.items() if name in case.get("only", [name])}}
        json.dump({"cases": CASES, "templates": results}, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
