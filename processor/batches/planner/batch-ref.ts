import { keys } from '../../../edge/contract/keys.ts'

/** Which batch it is. */
export interface BatchRef {
  tenant: string
  batch: string
}

/** The batch that a key below `keys.openBatches` is about. */
export function refOfMarker(key: string): BatchRef {
  const [tenant = '', batch = ''] = key.slice(keys.openBatches.length).split('/')
  return { tenant, batch }
}
