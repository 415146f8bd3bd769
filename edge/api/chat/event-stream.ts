const encoder = new TextEncoder()

/** Server-sent events (WHATWG HTML, 9.2) as the body of a response. */
export interface EventStream {
  body: ReadableStream<Uint8Array>
  /** Sends an event; nothing once its reader has gone. */
  write(data: string): void
  close(): void
}

/** @param onLeft called when the reader goes before the end */
export function eventStream(onLeft: () => void): EventStream {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  const body = new ReadableStream<Uint8Array>({
    start(started) {
      controller = started
    },
    cancel() {
      controller = undefined
      onLeft()
    },
  })
  return {
    body,
    write: (data) => controller?.enqueue(encoder.encode(`data: ${data}\n\n`)),
    close() {
      controller?.close()
      controller = undefined
    },
  }
}
