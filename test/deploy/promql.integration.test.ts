import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { canInstall, type GoTool, installGoTool } from '../servers/go-tools.ts'
import { run } from '../servers/tools.ts'
import { alertsFile, readAlerts } from './alerts.ts'
import { deployFolder } from './chart.ts'
import { readDashboard } from './dashboard.ts'

const promtool: GoTool = {
  name: 'promtool',
  package: 'github.com/prometheus/prometheus/cmd/promtool',
  version: 'v0.316.0',
  // Without the clients of every cloud, which would take most of the time to build.
  tags: ['remove_all_sd', 'enable_dns_sd'],
}
const expectations = fileURLToPath(new URL('./alerts.test.yaml', import.meta.url))

describe.skipIf(!canInstall(promtool))('for Prometheus', () => {
  let binary: string
  let folder: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'turbine-promql-'))
    binary = await installGoTool(promtool)
    return () => rm(folder, { recursive: true })
  }, 900_000)

  it('its configuration and the alert rules are right', async () => {
    const config = join(deployFolder, 'prometheus/prometheus.yaml')
    const report = await run(binary, ['check', 'config', config])
    expect(report).toContain(`SUCCESS: ${(await readAlerts()).length} rules found`)
  })

  it('the alerts come when they are needed and not otherwise', async () => {
    await cp(alertsFile, join(folder, 'alerts.yaml'))
    await cp(expectations, join(folder, 'alerts.test.yaml'))
    const report = await run(binary, ['test', 'rules', join(folder, 'alerts.test.yaml')]).catch(
      ({ stdout }: { stdout: string }) => stdout,
    )
    expect(report).toContain('SUCCESS')
  })

  it('the panels of the dashboard are PromQL', async () => {
    const { panels } = await readDashboard()
    const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    // What Grafana fills in.
    const rules = expressions.map((expr, index) => ({
      record: `panel:${index}`,
      expr: expr.replaceAll('$__rate_interval', '1m'),
    }))
    const file = join(folder, 'panels.yaml')
    await writeFile(file, stringify({ groups: [{ name: 'panels', rules }] }))
    expect(await run(binary, ['check', 'rules', file])).toContain(`SUCCESS: ${expressions.length} rules`)
  })
})
