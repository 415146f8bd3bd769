import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { goModule } from '../servers/go-tools.ts'

/** The module that has KEDA's resource definitions and its scalers. */
export const keda = 'github.com/kedacore/keda/v2@v2.21.0'

/** A setting of a scaler, as KEDA's source declares it. */
export interface ScalerSetting {
  name: string
  required: boolean
  /** Values that are allowed; absent where any is. */
  allowed?: string[]
  /** Whether a trigger may give it, and whether its authentication may. */
  inTrigger: boolean
  inAuthentication: boolean
}

/** All that KEDA's scaler of a type reads, e.g. `kafka`, and what it shares with others to log in over HTTP. */
export async function readScaler(type: string): Promise<ScalerSetting[]> {
  const folder = await goModule(keda)
  const read = (file: string) => readFile(join(folder, 'pkg/scalers', file), 'utf8')
  const own = settingsIn(await read(`${type}_scaler.go`))
  const shared = settingsIn(await read('authentication/authentication_types.go'))
  return [...own, ...shared.map((setting) => ({ ...setting, required: false }))]
}

const settingsIn = (source: string): ScalerSetting[] =>
  [...source.matchAll(/`keda:"(name=[^"]*)"/g)].flatMap(([, tag]) => toSettings(tag!))

/** `name=authModes;authMode, order=triggerMetadata;authParams, enum=basic;bearer, optional` */
function toSettings(tag: string): ScalerSetting[] {
  const fields = tag.split(',').map((field) => field.trim().split('='))
  const valuesOf = (key: string) => fields.find(([name]) => name === key)?.[1]?.split(';')
  const has = (key: string) => fields.some(([name]) => name === key)
  const order = valuesOf('order') ?? []
  return (valuesOf('name') ?? []).map((name) => ({
    name,
    required: !has('optional') && !has('default'),
    allowed: valuesOf('enum'),
    inTrigger: order.includes('triggerMetadata'),
    inAuthentication: order.includes('authParams'),
  }))
}
