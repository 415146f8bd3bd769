/** Turbo cannot be put into a model exactly; the message is one line that says why. */
export class PlugRefusal extends Error {
  override readonly name = 'PlugRefusal'
}

/** How a node is called in a message. */
export const nameOf = ({ name, opType }: { name?: string; opType: string }): string =>
  name && name !== opType ? `${opType} ${name}` : opType
