class BatchAnswering:
    def __init__(self, answering): ...
    async def stream(self, source):
        yield
