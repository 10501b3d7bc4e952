"""The dialect of OpenAI's API: chat, responses, completions, models, embeddings; and ``/v1/rerank``."""
