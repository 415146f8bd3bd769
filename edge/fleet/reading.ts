import { type Config, ConfigError } from '../../infra/config.ts'
import { nearest } from '../../infra/nearest.ts'
import type { Reading } from '../contract/batch.ts'
import type { ModelSummary } from '../contract/model.ts'
import { chatParameters } from '../contract/parameters.ts'

/** How an edge with these settings reads requests. */
export const readingOf = ({
  ignoreParameters,
  modelAliases,
  maxText,
  maxImages,
}: Pick<Config, 'ignoreParameters' | 'modelAliases' | 'maxText' | 'maxImages'>): Reading => ({
  ignored: ignoreParameters,
  aliases: modelAliases,
  maxText,
  maxImages,
})

/** Names in `TURBINE_IGNORE_PARAMETERS` that are misspelt or have no effect, in words. */
export function idleIgnores(ignored: readonly string[]): string[] {
  const known = Object.keys(chatParameters)
  return ignored.flatMap((name) => {
    const parameter = known.includes(name) ? chatParameters[name] : undefined
    const meant = parameter ? undefined : nearest(name, known)
    if (parameter && !parameter.same)
      return [`TURBINE_IGNORE_PARAMETERS: "${name}" has no effect, since it is honoured.`]
    return meant
      ? [`TURBINE_IGNORE_PARAMETERS: "${name}" is no known parameter. Did you mean "${meant}"?`]
      : []
  })
}

/**
 * Refuses aliases of models that are not served. A fleet whose models were never announced, or cannot be read, has none to
 * compare with: its requests tell.
 * @throws ConfigError
 */
export async function assertAliases(
  { modelAliases }: Pick<Config, 'modelAliases'>,
  models: () => ModelSummary[] | Promise<ModelSummary[]>,
): Promise<void> {
  const aliases = Object.entries(modelAliases)
  if (aliases.length === 0) return
  const ids = (await Promise.resolve(models()).catch(() => [])).map(({ id }) => id)
  if (ids.length === 0) return
  const refuse = (fault: string) => {
    throw new ConfigError(`TURBINE_MODEL_ALIASES: ${fault} Served: ${ids.join(', ')}.`)
  }
  for (const [alias, model] of aliases) {
    if (!ids.includes(model)) refuse(`"${alias}" stands for "${model}", which is not served.`)
    if (ids.includes(alias)) refuse(`"${alias}" is the id of a model.`)
  }
}
