import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { goModule } from '../servers/go-tools.ts'
import { keda } from './keda.ts'

/** A JSON schema, as far as it is looked at here. */
interface Schema {
  [keyword: string]: unknown
  $ref?: string
  properties?: Record<string, Schema>
}

/** What names an object's kind; a group is empty for Kubernetes' first objects. */
interface GroupVersionKind {
  group: string
  version: string
  kind: string
}

interface CustomResourceDefinition {
  spec: {
    group: string
    names: { kind: string }
    versions: { name: string; schema: { openAPIV3Schema: Schema } }[]
  }
}

const kubernetes = 'k8s.io/kubernetes@v1.37.2'
const customResources = {
  [`${keda}/config/crd/bases`]: ['keda.sh_scaledobjects.yaml', 'keda.sh_triggerauthentications.yaml'],
  'github.com/prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd': [
    'monitoring.coreos.com_podmonitors.yaml',
    'monitoring.coreos.com_prometheusrules.yaml',
  ],
}

/** Where kubeconform finds the files that `writeSchemas` writes. */
export const schemaLocation = (folder: string) => join(folder, '{{.ResourceKind}}{{.KindSuffix}}.json')

/** Writes strict JSON schemas of Kubernetes', KEDA's and the Prometheus operator's objects into the folder. */
export async function writeSchemas(folder: string): Promise<void> {
  await Promise.all([
    writeKubernetes(folder),
    ...Object.entries(customResources).map(([place, files]) => writeCustomResources(folder, place, files)),
  ])
}

async function writeKubernetes(folder: string): Promise<void> {
  const file = join(await goModule(kubernetes), 'api/openapi-spec/swagger.json')
  const { definitions } = JSON.parse(await readFile(file, 'utf8')) as { definitions: Record<string, Schema> }
  const strict = toStrict({ ...definitions, ...numbersToo }) as Record<string, Schema>
  for (const [name, definition] of Object.entries(definitions)) {
    const kinds = (definition['x-kubernetes-group-version-kind'] ?? []) as GroupVersionKind[]
    // Options of requests have a kind in every group; they are no objects.
    if (kinds.length !== 1) continue
    await write(folder, kinds[0]!, { ...strict[name], definitions: referencesOf(name, strict) })
  }
}

async function writeCustomResources(folder: string, place: string, files: string[]): Promise<void> {
  const [, module, path] = /^(.*@[^/]+)\/(.*)$/.exec(place)!
  const base = join(await goModule(module!), path!)
  for (const file of files) {
    const { spec } = parse(await readFile(join(base, file), 'utf8')) as CustomResourceDefinition
    for (const { name: version, schema } of spec.versions) {
      const kind = { group: spec.group, version, kind: spec.names.kind }
      await write(folder, kind, toStrict(schema.openAPIV3Schema) as Schema)
    }
  }
}

/** Named as kubeconform asks for it: `scaledobject-keda-v1alpha1.json`, `service-v1.json`. */
const write = (folder: string, { group, version, kind }: GroupVersionKind, schema: Schema) => {
  const [firstOfGroup] = group.split('.')
  const name = [kind.toLowerCase(), firstOfGroup, version].filter(Boolean).join('-')
  return writeFile(join(folder, `${name}.json`), JSON.stringify(schema))
}

/** Objects with known properties have no others: a misspelt one would be dropped by the API server in silence. */
function toStrict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(toStrict)
  if (typeof schema !== 'object' || schema === null) return schema
  const strict: Schema = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, toStrict(value)]),
  )
  const open = 'additionalProperties' in strict || strict['x-kubernetes-preserve-unknown-fields'] === true
  const isSchema = strict.type === 'object' && typeof strict.properties === 'object'
  return isSchema && !open ? { ...strict, additionalProperties: false } : strict
}

/** Swagger calls these two strings; the API server takes numbers too. */
const numbersToo: Record<string, Schema> = {
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { type: ['string', 'integer'] },
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { type: ['string', 'number'] },
}

/** The definitions that a definition needs, itself included. */
function referencesOf(name: string, definitions: Record<string, Schema>): Record<string, Schema> {
  const used = new Set([name])
  // A set is walked to its end, also over what is added on the way.
  for (const each of used)
    for (const [, reference] of JSON.stringify(definitions[each]).matchAll(/"#\/definitions\/([^"]+)"/g))
      used.add(reference!)
  return Object.fromEntries([...used].map((each) => [each, definitions[each]!]))
}
