import { beforeAll, describe, expect, it } from 'vitest'
import { canInstall, canUseGo, installGoTool } from '../servers/go-tools.ts'
import { examples, helm, type KubernetesObject, parseObjects, renderChart, scaledObjects } from './chart.ts'
import { readScaler, type ScalerSetting } from './keda.ts'

interface TriggerAuthentication extends KubernetesObject {
  spec: Record<'configMapTargetRef' | 'secretTargetRef', { parameter: string }[] | undefined>
}

describe.skipIf(!canInstall(helm) || !canUseGo())("KEDA's scalers", () => {
  let scalers: Record<string, ScalerSetting[]>
  let rendered: Map<string, KubernetesObject[]>

  beforeAll(async () => {
    const binary = await installGoTool(helm)
    scalers = { kafka: await readScaler('kafka'), prometheus: await readScaler('prometheus') }
    const render = async (example: string) =>
      [example, parseObjects(await renderChart(binary, example))] as const
    rendered = new Map(await Promise.all(examples.map(render)))
  }, 900_000)

  const triggersOf = (example: string) =>
    scaledObjects(rendered.get(example)!).flatMap(({ spec }) => spec.triggers)

  it('declare what they read', () => {
    expect(scalers.kafka?.map(({ name }) => name)).toEqual(expect.arrayContaining(['topic', 'sasl']))
    expect(scalers.prometheus?.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['query', 'authModes']),
    )
  })

  it.each(examples)('know all that the triggers say with the values of %s, and miss nothing', (example) => {
    for (const { type, metadata } of triggersOf(example)) {
      const settings = scalers[type]!.filter(({ inTrigger }) => inTrigger)
      const allowed = new Map(settings.map((setting) => [setting.name, setting.allowed]))
      for (const [name, value] of Object.entries(metadata)) {
        expect(allowed.has(name), `${type} ${name}`).toBe(true)
        if (allowed.get(name)) expect(allowed.get(name)).toContain(value)
      }
      const required = scalers[type]!.filter((setting) => setting.required && setting.inTrigger)
      expect(Object.keys(metadata)).toEqual(expect.arrayContaining(required.map(({ name }) => name)))
    }
  })

  it('know all that the authentication says', () => {
    const isAuthentication = (object: KubernetesObject): object is TriggerAuthentication =>
      object.kind === 'TriggerAuthentication'
    const { spec } = rendered.get('secured')!.find(isAuthentication)!
    const known = scalers.kafka!.filter(({ inAuthentication }) => inAuthentication).map(({ name }) => name)
    const given = [...spec.configMapTargetRef!, ...spec.secretTargetRef!].map(({ parameter }) => parameter)
    expect(given).toEqual(['sasl', 'tls', 'username', 'password', 'ca'])
    expect(known).toEqual(expect.arrayContaining(given))
    const words = rendered.get('secured')!.find(({ metadata }) => metadata.name === 'release-turbine-kafka')
    const { data } = words as KubernetesObject & { data: Record<string, string> }
    for (const [name, value] of Object.entries(data))
      expect(scalers.kafka!.find((setting) => setting.name === name)?.allowed).toContain(value)
  })
})
