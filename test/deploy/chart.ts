import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import type { GoTool } from '../servers/go-tools.ts'

export const helm: GoTool = { name: 'helm', package: 'helm.sh/helm/v4/cmd/helm', version: 'v4.3.1' }

/** What is deployed: the chart, the images, the dashboards. */
export const deployFolder = fileURLToPath(new URL('../../infra/deploy/', import.meta.url))
export const chartFolder = `${deployFolder}helm/turbine/`

/** Names of the chart's examples of values. */
export const examples = readdirSync(`${chartFolder}ci`).map((file) => file.replace('-values.yaml', ''))

export const valuesOf = (example: string) => `${chartFolder}ci/${example}-values.yaml`

export interface KubernetesObject {
  apiVersion: string
  kind: string
  metadata: { name: string; labels: Record<string, string>; annotations?: Record<string, string> }
}

interface EnvironmentVariable {
  name: string
  value?: string
  valueFrom?: { secretKeyRef?: { name: string; key: string; optional?: boolean } }
}

export interface Container {
  name: string
  image: string
  args: string[]
  env: EnvironmentVariable[]
  resources: { limits: Record<string, string | number> }
  lifecycle?: { preStop: { sleep: { seconds: number } } }
}

/** A Deployment or a Job. */
export interface Workload extends KubernetesObject {
  spec: {
    replicas?: number
    template: {
      metadata: { labels: Record<string, string>; annotations?: Record<string, string> }
      spec: {
        terminationGracePeriodSeconds: number
        initContainers?: Container[]
        containers: [Container]
      }
    }
  }
}

export interface Trigger {
  type: 'kafka' | 'prometheus'
  metricType: string
  metadata: Record<string, string>
  authenticationRef?: { name: string }
}

export interface ScaledObject extends KubernetesObject {
  spec: {
    scaleTargetRef: { name: string }
    minReplicaCount: number
    maxReplicaCount: number
    cooldownPeriod: number
    fallback: { failureThreshold: number; replicas: number; behavior: string }
    advanced: { horizontalPodAutoscalerConfig: { behavior: Record<'scaleUp' | 'scaleDown', ScalingPolicy> } }
    triggers: Trigger[]
  }
}

interface ScalingPolicy {
  stabilizationWindowSeconds: number
}

/**
 * The chart's objects as text.
 * @param binary of helm
 * @param options further arguments, e.g. `--set`
 * @throws Error with what helm says when the values are refused
 */
export async function renderChart(binary: string, example: string, ...options: string[]): Promise<string> {
  const values = ['--values', valuesOf(example)]
  const args = ['template', 'release', chartFolder, '--namespace', 'captions', ...values, ...options]
  const { stdout } = await promisify(execFile)(binary, args, { maxBuffer: 16 * 1024 * 1024 })
  return stdout
}

/** @throws Error when the text is not YAML, a key that is there twice included */
export function parseObjects(text: string): KubernetesObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors[0]) throw document.errors[0]
    return (document.toJS() as KubernetesObject | null) ?? []
  })
}

const isWorkload = (object: KubernetesObject): object is Workload => /^(Deployment|Job)$/.test(object.kind)
const isScaled = (object: KubernetesObject): object is ScaledObject => object.kind === 'ScaledObject'

export const workloads = (objects: KubernetesObject[]) => objects.filter(isWorkload)
export const scaledObjects = (objects: KubernetesObject[]) => objects.filter(isScaled)

/** The workload of a part, e.g. `batch-processor`. @throws Error when there is none */
export function workloadOf(objects: KubernetesObject[], part: string): Workload {
  const found = workloads(objects).find(({ metadata }) => metadata.name === `release-turbine-${part}`)
  if (!found) throw new Error(`There is no ${part}.`)
  return found
}

/** Of a container, by their names; what comes from elsewhere is undefined. */
export const environmentOf = ({ env }: Container): Record<string, string | undefined> =>
  Object.fromEntries(env.map(({ name, value }) => [name, value]))
