"""Real servers on 127.0.0.1 that stand in for the outside world; every test and end-to-end test codes against these.

All of them start in their constructor on a free port, are context managers, and may be closed early with `close()`.
Scripts that run as processes of their own reach them through their URL. Fixtures of `tests/conftest.py`: `agent`,
`judge`, `otlp`, `files`, `s3`, `nobody` (a base URL that refuses every connection).

Common to agent, raw agent, judge, collector and files (`scripting.ScriptedServer`)
    requests: list[Request(method, path, query, headers, body; .json(), .arguments)]   header names in lower case
    in_flight: int; max_in_flight: int                     of POST requests (of GET and HEAD for `files`)
    fail_next(n=1, status=503, retry_after=None, body=None)    answered unprocessed
    statuses(*codes)                                       one request each; 200 is a normal answer
    fail_rate(probability, status=429, seed=7, retry_after=None)
    garbage_next(n=1, body=...)                            200 with a body that is no JSON, unprocessed
    drop_next(n=1)                                         processed, then hung up: delivered but unanswered
    hang_next(n=1); hang(); delay(seconds); release()
    wait_for(condition, timeout=20); wait_in_flight(n); wait_requests(n)
        They block: in an async test `await asyncio.to_thread(part.wait_in_flight, 4)`.
    An error inside a part or in a test's callback hangs up, and is raised when the part is closed (not the agent's:
    what a behaviour raises is what the protocol makes of it).

scripted_agent.ScriptedAgent(behaviour=by_magic, *, card=True, protocol="1.0"|"0.3-compat", streaming=False,
                             advertised_origin=None, path="")
    url: str; fail_card_next(n=1, status=503)
    received: list[Received(text, context_id, task_id, message_id, method, headers, params)]
        as sent, only what reached the agent: not what a fault answered, but what `drop_next` swallowed
    heard: dict[context_id, list[text]]; polls: Counter[task_id]
    A message `!NAME ARGUMENT` chooses the behaviour; any other text is answered "answer to: TEXT" in an artifact:
        !say TEXT          artifact TEXT, completed              !recall        all texts heard in this context
        !message TEXT      bare Message, no task                 !status TEXT   completed, text only in the status
        !history TEXT      text only in the history              !empty         completed without a word
        !fail !reject !cancel TEXT                               final state with TEXT as status message
        !ask !auth TEXT    waits for input or login; the next message with the task's id goes on
        !raise !raise-late TEXT                                  the executor raises before or after the task exists
        !poll N            returned as working, done after N tasks/get (2)
        !slow TEXT         done after `release()`
        !adk TEXT          ADK: call, result and text (with a thought) in the history, TEXT as artifact, usage
        !adk-artifacts TEXT   ADK's newer shape: every event an artifact
        !metadata TEXT     tool call in a message's metadata     !many          parts first, second; artifact third
        !file TEXT         text, raw file and file URL           !data          a data part without text
    agent_answers: TOOL_NAME, TOOL_ARGS, TOOL_RESPONSE, USAGE, FILE_BYTES; Exchange, Behaviour, BEHAVIOURS, by_magic
    Behaviour = async (Exchange) -> None. Exchange: text, argument, message, heard, resumed, streaming, headers, queue,
        updater (the SDK's); await begin(), say(*parts, metadata=None), artifact(*parts, name="answer"),
        end(TaskState, text="", metadata=None), complete(text), reply(text), released(), polled(n)

raw_agent.RawAgent(*, card=True|False|{...})               protocol 0.3 with canned JSON
    url: str; calls: list[Call(method, params, headers; .message)]
    answers(method, *results)      dict | None | RpcError(code, message) | callable(params); in turn, the last for good
    card_03(url, streaming=False), message_03(text, message_id, context_id),
    task_03(text="", state="completed", message=None, history=(), status_text="", task_id="task-1")

scripted_judge.ScriptedJudge()
    base_url: str (ends in /v1); chats: list[Request]; prompts: list[str]; models: set[str]
    answer(schema_title, *verdicts)    dict | callable(prompt) -> dict; in turn, the last for good
    reply_text(text); malformed_next(n=1, text=...); finish_reason(reason); cost(usd|None); embedding(text, vector)
    tokens(text), prompt_tokens(body), hash_vector(text): what the server counts and embeds

scripted_chat.ScriptedChat()                              a model under test, streamed or whole
    base_url: str (ends in /v1); chats: list[Request]; bodies: list[dict]; held: int
    says(*answers)     str | Says(text, calls, finish_reason, refusal, cut, error) | callable(body); the last for good
    Call(name, arguments="{}", id=""); cost(usd|None); without_usage(); refuses(*options); hold_streams()

tool_server.ToolServer()                                  tools over HTTP
    tool(name, result | callable(arguments)) -> url; calls: list[(name, arguments)]

mcp_server.McpToolServer(*functions, token=None)          the SDK's own server, streamable HTTP
    url: str; headers: list[dict]

websocket_agent.WebSocketAgent()                          the reference system's agent WebSocket
    url: str; received: list[dict]; messages: list[str]; headers; open: int; greeting; refuse_next: list[int]
    says(*scripts)     lists of frames: chunk(text), done(text), call(name, arguments), error(code), str as it is,
                       AWAIT_RESULT, DROP, HANG; cut(); wait_open(n)

otlp_receiver.OtlpReceiver()
    endpoint: str (OTEL_EXPORTER_OTLP_ENDPOINT)
    spans: list[Span(name, trace_id, span_id, parent_id, kind, status, status_message, start_ns, end_ns, attributes,
        resource, scope, events)]; span(name) -> the only one of this name
    points: list[Point(name, kind, value, attributes, resource, unit, description, time_ns)]; points_of(name)
    log_events: list[LogEvent(name, body, severity, trace_id, span_id, time_ns, attributes, resource)]
    reject(n, message="too many series")                   partial success from now on; 0 ends it

static_files.StaticFiles()
    url(name, **query) -> str; these serve and return the URL:
    add(name, content, content_type="" (from the name) | None (no header) | str, headers=None)
    add_redirect(name, to, status=302); add_status(name, status, body=""); add_cut(name, content, sent)

s3_store.S3Store()
    endpoint: str; put(bucket, key, content) -> "s3://..."; get(bucket, key) -> bytes | None
    keys(bucket, prefix="") -> list[str]; make_bucket(bucket); clear(); environment() -> dict of AWS_* variables

loopback.LoopbackServer, Reply; loopback.nobody_listens()  for a server that is not here yet
loopback_guard                                             what keeps the test process off the network
"""
