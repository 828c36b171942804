"""The only package that talks to Redis: keys, scripts, connections and the verbs built on them. See PROTOCOL.md."""
