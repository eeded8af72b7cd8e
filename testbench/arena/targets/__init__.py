"""The systems under test of an ArenaJob, each behind `testbench.schema.agent.AgentClient`.

    ChatTarget       -> chat_client.ChatClient            an OpenAI-compatible model, with tools (tools, mcp_tools)
    A2ATarget        -> schema.a2a_client                 an agent over A2A
    WebSocketTarget  -> websocket_client.WebSocketClient  an agent over the reference system's WebSocket

`runs.target_clients.open_client` opens any of them; `simulated_user` plays the user against one.
"""
