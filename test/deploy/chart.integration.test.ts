import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { parse } from 'yaml'
import { canInstall, canUseGo, type GoTool, installGoTool } from '../servers/go-tools.ts'
import { run } from '../servers/tools.ts'
import {
  chartFolder,
  deployFolder,
  examples,
  helm,
  type KubernetesObject,
  parseObjects,
  renderChart,
  valuesOf,
} from './chart.ts'
import { schemaLocation, writeSchemas } from './schemas.ts'

const kubeconform: GoTool = {
  name: 'kubeconform',
  package: 'github.com/yannh/kubeconform/cmd/kubeconform',
  version: 'v0.8.0',
}
const buildMs = 900_000

describe.skipIf(!canInstall(helm))('the Helm chart', () => {
  let binary: string

  beforeAll(async () => {
    binary = await installGoTool(helm)
  }, buildMs)

  const refusal = (...options: string[]) => {
    return renderChart(binary, 'default', ...options).then(
      () => 'nothing was refused',
      (error: Error) => error.message,
    )
  }

  it.each(examples)('passes the linter with the values of %s', async (example) => {
    const report = await run(binary, ['lint', '--strict', chartFolder, '--values', valuesOf(example)])
    expect(report).toContain('0 chart(s) failed')
  })

  it('has the version of the package', async () => {
    const { version, appVersion } = parse(await readFile(join(chartFolder, 'Chart.yaml'), 'utf8'))
    const packageJson = new URL('../../package.json', import.meta.url)
    expect([version, appVersion]).toEqual(
      Array(2).fill(JSON.parse(await readFile(packageJson, 'utf8')).version),
    )
  })

  it('refuses models that cannot be told apart, or that are none', async () => {
    const models = (text: string) => refusal('--set-json', `models=${text}`)
    expect(await models('[{"model":{"path":"/a/x"}},{"model":{"pull":""}}]')).toContain(
      'models[1].model names no model',
    )
    expect(await models('[{"model":{"path":"/a/x"}},{"model":{"path":"/b/x"}}]')).toContain(
      'models[1].model is "x", which another one is too',
    )
    expect(await models('[{"model":{"path":"/a/x"},"replicas":{"max":49}}]')).toContain(
      'models[0].replicas.max is 49',
    )
    expect(await models('[{"model":{"path":"/a/x"},"env":{"TURBINE_MODEL":"y"}}]')).toContain(
      'models[0].env.TURBINE_MODEL is made by',
    )
  })

  it('refuses more processors than partitions', async () => {
    expect(await refusal('--set', 'processor.replicas.max=49')).toContain(
      'processor.replicas.max is 49, but topics have 48 partitions',
    )
    expect(await refusal('--set', 'processor.lanes=interactive,batchProcessor.replicas.max=49')).toContain(
      'batchProcessor.replicas.max is 49, but topics have 48 partitions',
    )
    expect(await refusal('--set', 'batchProcessor.replicas.max=40')).toContain(
      'processor.replicas.max and batchProcessor.replicas.max are 56 together',
    )
  })

  it.each([
    ['kafka.brokers=', 'kafka.brokers is not set: name the brokers'],
    ['kafka.sasl=plain', 'KAFKA_USERNAME is missing: set secret.values.KAFKA_USERNAME'],
    ['kafka.privateAuthority=true', 'set kafka.tls=true'],
    ['kafka.kedaVersion=1.0.0', "at '/kafka/kedaVersion'"],
    ['processor.env.TURBINE_LANES=both', 'processor.env.TURBINE_LANES is made by the value processor.lanes'],
    ['processor.lane=both', "'lane' not allowed"],
    ['processor.replicas.min=0', "at '/processor/replicas/min'"],
    ['processor.replicas.min=17', 'processor.replicas.min is 17, more than max, which is 16'],
    ['processor.lanes=interactive,batchProcessor.enabled=false', 'Nobody would take batches'],
    ['processor.lanes=interactive,keda.enabled=false', 'Nobody would start processors for batches'],
    ['edge.ingress.enabled=true', 'edge.ingress.host is not set'],
    ['secret.values.TURBINE_REPLY_SECRET=short', "at '/secret/values/TURBINE_REPLY_SECRET'"],
  ])('refuses %s', async (values, message) => {
    expect(await refusal('--set', values)).toContain(message)
  })

  it('carries the alert rules and the dashboard', async () => {
    const files = { rules: 'prometheus/alerts.yaml', dashboard: 'grafana/turbine.json' }
    const options = Object.entries(files).flatMap(([name, file]) => [
      '--set-file',
      `monitoring.${name}=${deployFolder}${file}`,
    ])
    const objects = parseObjects(await renderChart(binary, 'default', ...options))
    const find = (kind: string, name: string): KubernetesObject | undefined =>
      objects.find((object) => object.kind === kind && object.metadata.name === name)
    const read = (file: string) => readFile(join(deployFolder, file), 'utf8')
    expect(find('PrometheusRule', 'release-turbine')).toMatchObject({ spec: parse(await read(files.rules)) })
    expect(find('ConfigMap', 'release-turbine-dashboard')).toMatchObject({
      data: { 'turbine.json': await read(files.dashboard) },
    })
  })

  describe.skipIf(!canInstall(kubeconform) || !canUseGo())('makes objects that Kubernetes takes', () => {
    let validator: string
    let folder: string

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'turbine-schemas-'))
      validator = await installGoTool(kubeconform)
      await writeSchemas(folder)
      return () => rm(folder, { recursive: true })
    }, buildMs)

    /** What kubeconform finds wrong. */
    const validate = async (file: string) => {
      const args = [
        '-strict',
        '-summary',
        '-output',
        'json',
        '-schema-location',
        schemaLocation(folder),
        file,
      ]
      const report = await run(validator, args).catch(({ stdout }: { stdout: string }) => stdout)
      return JSON.parse(report) as {
        resources: { msg: string }[]
        summary: { valid: number; skipped: number }
      }
    }

    it.each(examples)('with the values of %s', async (example) => {
      const out = await mkdtemp(join(tmpdir(), 'turbine-chart-'))
      onTestFinished(() => rm(out, { recursive: true }))
      const rules = `monitoring.rules=${deployFolder}prometheus/alerts.yaml`
      await renderChart(binary, example, '--set-file', rules, '--output-dir', out)
      const { resources, summary } = await validate(out)
      expect(resources ?? []).toEqual([])
      expect(summary.valid).toBeGreaterThan(8)
      expect(summary.skipped).toBe(0)
    })

    it('and would notice a misspelt property', async () => {
      const out = await mkdtemp(join(tmpdir(), 'turbine-chart-'))
      onTestFinished(() => rm(out, { recursive: true }))
      const misspelt = 'processor.scaling.behavior.scaleDown.stabilisationWindowSeconds=300'
      await renderChart(binary, 'default', '--set', misspelt, '--output-dir', out)
      const { resources } = await validate(out)
      expect(resources.map(({ msg }) => msg)).toEqual([
        expect.stringContaining('stabilisationWindowSeconds'),
        expect.stringContaining('stabilisationWindowSeconds'),
      ])
    })
  })
})
