/** Interactive work has a caller who waits; batch work fills the rest. */
export const lanes = ['interactive', 'batch'] as const
export type Lane = (typeof lanes)[number]
