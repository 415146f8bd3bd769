import { Option } from 'commander'
import type { ConfigRow, SettingName } from '../../infra/config.ts'

/** Flags that choose the model and the devices of a command. */
export interface ModelFlags {
  model?: string
  device?: string
  dtype?: string
  precision?: string
  /** What the model is asked. */
  prompt?: string
}

/** Option of a setting. Its value stays text, which the config module parses like that of the variable. */
export function settingOption(settings: ConfigRow[], name: SettingName): Option {
  const setting = settings.find((row) => row.name === name)
  if (!setting) throw new RangeError(`There is no setting "${name}".`)
  return optionOf(setting)
}

/** Option of a setting that takes several values: it is repeated, and its values are joined as in the variable. */
export function repeatedOption(settings: ConfigRow[], name: SettingName): Option {
  const option = settingOption(settings, name)
  option.description = option.description.replace(/ \(/, '; repeat it for several (')
  return option.argParser((value: string, before?: string) => [before, value].filter(Boolean).join(','))
}

/** Options of all settings but secrets, and those that are left out. */
export const settingOptions = (settings: ConfigRow[], without: readonly SettingName[] = []): Option[] =>
  settings.filter(({ flag, name }) => flag !== undefined && !without.includes(name)).map(optionOf)

function optionOf({ name, flag, variable, default: value, allowed, description }: ConfigRow): Option {
  if (flag === undefined) throw new RangeError(`The setting "${name}" is a secret and has no option.`)
  const choices = flag.includes('<') && allowed.includes(' | ') ? `; ${allowed}` : ''
  const text = description.replace(/\.$/, '').replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase())
  return new Option(flag, `${text}${choices} (${variable}, default: ${value})`)
}

/** Section of `--help` on environment variables. */
export function describeVariables(settings: ConfigRow[]): string {
  const rows = [
    ...settings.map(({ variable, default: value, description }) => [variable, description, value] as const),
    ['TURBINE_URL', 'URL of the service for `turbine batch`.', 'http://127.0.0.1:8787'] as const,
    ['TURBINE_API_KEY', 'API key for `turbine batch`.', 'none'] as const,
    ['HF_ENDPOINT', 'URL of the hub for `turbine models pull`.', 'https://huggingface.co'] as const,
    ['HF_TOKEN', 'Access token for private and gated models.', 'none'] as const,
  ]
  const width = Math.max(...rows.map(([variable]) => variable.length))
  const lines = rows.map(
    ([variable, description, value]) => `  ${variable.padEnd(width)}  ${description} Default: ${value}.`,
  )
  return ['Environment variables (options override them):', ...lines].join('\n')
}
