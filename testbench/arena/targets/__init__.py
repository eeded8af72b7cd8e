"""The systems under test of an ArenaJob, each behind `testbench.schema.agent.AgentClient`.

    ChatTarget       -> chat.ChatClient               an OpenAI-compatible model, with tools (tools, mcp_tools)
    A2ATarget        -> schema.a2a_client             an agent over A2A
    WebSocketTarget  -> websocket.WebSocketClient     an agent over the reference system's WebSocket

`runs.target_clients.open_client` opens any of them; `selfplay` plays the user against one.
"""
