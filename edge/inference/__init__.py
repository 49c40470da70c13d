"""What the models' process runs. Nothing here may import pydantic or asyncio: they would double its memory."""
