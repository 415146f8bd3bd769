/** Interactive work has a caller who waits; batch work fills the rest. */
export type Lane = 'interactive' | 'batch'
