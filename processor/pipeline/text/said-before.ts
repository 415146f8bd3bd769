/**
 * The longest end of a text that is in the text before, too, character by character: a suffix automaton (Blumer et al., 1985) in
 * arrays, about 60 bytes a character.
 */
export class SaidBefore {
  /** Of each state: its longest text, the state of its longest end with other places, and its first edge. */
  readonly #lengths: number[] = [0]
  readonly #links: number[] = [-1]
  readonly #firstEdges: number[] = [-1]
  /** Of each edge: its character, where it leads, and the next of the same state. */
  readonly #characters: number[] = []
  readonly #targets: number[] = []
  readonly #nextEdges: number[] = []
  #last = 0

  /** Characters of the end that is there before; it may overlap with itself. */
  get length(): number {
    const link = this.#links[this.#last]!
    return link < 0 ? 0 : this.#lengths[link]!
  }

  add(text: string): void {
    for (let at = 0; at < text.length; at++) this.#addCharacter(text.charCodeAt(at))
  }

  #addCharacter(character: number): void {
    const added = this.#state(this.#lengths[this.#last]! + 1, 0)
    let state = this.#last
    this.#last = added
    while (state >= 0 && this.#edge(state, character) < 0) {
      this.#connect(state, character, added)
      state = this.#links[state]!
    }
    if (state < 0) return
    const target = this.#targets[this.#edge(state, character)]!
    if (this.#lengths[target] === this.#lengths[state]! + 1) {
      this.#links[added] = target
      return
    }
    const copy = this.#copy(target, this.#lengths[state]! + 1)
    for (; state >= 0; state = this.#links[state]!) {
      const edge = this.#edge(state, character)
      if (edge < 0 || this.#targets[edge] !== target) break
      this.#targets[edge] = copy
    }
    this.#links[target] = copy
    this.#links[added] = copy
  }

  #state(length: number, link: number): number {
    this.#firstEdges.push(-1)
    this.#links.push(link)
    return this.#lengths.push(length) - 1
  }

  #copy(state: number, length: number): number {
    const copy = this.#state(length, this.#links[state]!)
    for (let edge = this.#firstEdges[state]!; edge >= 0; edge = this.#nextEdges[edge]!)
      this.#connect(copy, this.#characters[edge]!, this.#targets[edge]!)
    return copy
  }

  #edge(state: number, character: number): number {
    let edge = this.#firstEdges[state]!
    while (edge >= 0 && this.#characters[edge] !== character) edge = this.#nextEdges[edge]!
    return edge
  }

  #connect(state: number, character: number, target: number): void {
    this.#characters.push(character)
    this.#targets.push(target)
    this.#nextEdges.push(this.#firstEdges[state]!)
    this.#firstEdges[state] = this.#characters.length - 1
  }
}
