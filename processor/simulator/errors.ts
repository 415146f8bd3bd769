/** Invalid input. The message says what is wrong, where, and what to do. */
export class SimulationInputError extends Error {
  override readonly name = 'SimulationInputError'
  readonly retriable = false
}
