import type { MessagePort, Worker } from 'node:worker_threads'

/** One end of the way between two threads. */
type Port = Pick<MessagePort | Worker, 'postMessage'>

/** Sends a message; buffers in the list are moved to the other thread, and not copied. */
export type Post<Message> = (message: Message, transfer?: readonly ArrayBuffer[]) => void

/**
 * Sends the messages of one turn of the event loop as one: waking the other thread costs more than what most of them say.
 *
 * @example
 * const post = groupedPost<ToLoader>(worker)
 * worker.on('message', (messages: FromLoader[]) => messages.forEach(receive))
 */
export function groupedPost<Message>(port: Port): Post<Message> {
  let waiting: Message[] = []
  let moved: ArrayBuffer[] = []
  const send = () => {
    const [messages, transfer] = [waiting, moved]
    waiting = []
    moved = []
    port.postMessage(messages, transfer)
  }
  return (message, transfer = []) => {
    moved.push(...transfer)
    if (waiting.push(message) === 1) setImmediate(send)
  }
}

/** What is done with each kind of message. */
export type Handlers<Message extends { kind: string }> = {
  [Kind in Message['kind']]: (message: Extract<Message, { kind: Kind }>) => unknown
}

/** Hands a message to what handles its kind. */
export function handle<Message extends { kind: string }>(
  handlers: Handlers<Message>,
  message: Message,
): void {
  handlers[message.kind as Message['kind']](message as never)
}
