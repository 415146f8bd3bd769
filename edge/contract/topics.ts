/** Every topic of the job stream, named once. */
export const topics = {
  interactive: 'turbine.interactive',
  batch: 'turbine.batch',
  control: 'turbine.control',
  deadLetter: 'turbine.dead-letter',
} as const

/** Consumer groups, one per lane. */
export const groups = {
  interactive: 'turbine-processor-interactive',
  batch: 'turbine-processor-batch',
} as const
