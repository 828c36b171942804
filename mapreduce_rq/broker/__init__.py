"""The only place that knows Redis: keys, scripts, connections and the verbs built on them. See PROTOCOL.md."""
