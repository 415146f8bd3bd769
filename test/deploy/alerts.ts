import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { deployFolder } from './chart.ts'

export const alertsFile = join(deployFolder, 'prometheus/alerts.yaml')

export interface AlertRule {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; description: string }
}

/** The rules for Prometheus. */
export async function readAlerts(): Promise<AlertRule[]> {
  const { groups } = parse(await readFile(alertsFile, 'utf8')) as { groups: { rules: AlertRule[] }[] }
  return groups.flatMap(({ rules }) => rules)
}
