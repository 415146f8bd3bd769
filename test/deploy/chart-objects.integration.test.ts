import { basename } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { groups, jobTopic, topics } from '../../edge/contract/topics.ts'
import { describeConfig, loadConfig } from '../../infra/config.ts'
import { canInstall, installGoTool } from '../servers/go-tools.ts'
import {
  type Container,
  environmentOf,
  examples,
  helm,
  type KubernetesObject,
  parseObjects,
  renderChart,
  scaledObjects,
  type Trigger,
  workloadOf,
  workloads,
} from './chart.ts'
import { readCommands } from './commands.ts'

const variables = new Set(describeConfig().map(({ variable }) => variable))
/** What is no setting: the address of the pod, and the hub's. */
const furtherVariables = ['POD_IP', 'HF_TOKEN']

describe.skipIf(!canInstall(helm))('the objects of the Helm chart', () => {
  let rendered: Map<string, KubernetesObject[]>

  beforeAll(async () => {
    const binary = await installGoTool(helm)
    const render = async (example: string) =>
      [example, parseObjects(await renderChart(binary, example))] as const
    rendered = new Map(await Promise.all(examples.map(render)))
  }, 900_000)

  const objectsOf = (example: string) => rendered.get(example)!
  const find = (example: string, kind: string, name: string) =>
    objectsOf(example).find((object) => object.kind === kind && object.metadata.name === name)
  const containersOf = (example: string): Container[] =>
    workloads(objectsOf(example)).flatMap(({ spec }) => [
      ...(spec.template.spec.initContainers ?? []),
      ...spec.template.spec.containers,
    ])
  const containerOf = (example: string, part: string) =>
    workloadOf(objectsOf(example), part).spec.template.spec.containers[0]
  const triggersOf = (example: string, part: string): Record<Trigger['type'], Trigger> => {
    const { triggers } = scaledOf(example, part).spec
    return Object.fromEntries(triggers.map((trigger) => [trigger.type, trigger])) as Record<
      Trigger['type'],
      Trigger
    >
  }
  const scaledOf = (example: string, part: string) =>
    scaledObjects(objectsOf(example)).find(({ metadata }) => metadata.name === `release-turbine-${part}`)!

  describe.each(examples)('with the values of %s', (example) => {
    it('run commands that there are', async () => {
      const commands = await readCommands()
      const begun = containersOf(example).map(({ args }) => args[0])
      expect(begun.length).toBeGreaterThan(1)
      for (const command of begun) expect(commands).toContain(command)
    })

    it('give settings that there are, each once, with values that are allowed', () => {
      for (const { env } of containersOf(example)) {
        const names = env.map(({ name }) => name)
        expect(names).toEqual([...new Set(names)])
        expect(names.filter((name) => !variables.has(name) && !furtherVariables.includes(name))).toEqual([])
      }
      for (const container of containersOf(example))
        expect(loadConfig({ env: environmentOf(container) }).warnings).toEqual([])
    })

    it('give every pod more time to end than its work takes', () => {
      const deployments = workloads(objectsOf(example)).filter(({ kind }) => kind === 'Deployment')
      for (const { spec } of deployments) {
        const { containers, terminationGracePeriodSeconds } = spec.template.spec
        const { config } = loadConfig({ env: environmentOf(containers[0]) })
        const before = containers[0].lifecycle?.preStop.sleep.seconds ?? 0
        expect(terminationGracePeriodSeconds).toBeGreaterThan(before + config.shutdownMs / 1000 + 5)
      }
    })

    it('scale within the partitions, each lane by itself and both together', () => {
      const { config } = loadConfig({ env: environmentOf(containerOf(example, 'planner')) })
      const taking = (lane: string) =>
        scaledObjects(objectsOf(example)).filter(({ metadata: { name } }) => {
          const { lanes } = loadConfig({
            env: environmentOf(containerOf(example, name.replace('release-turbine-', ''))),
          }).config
          return lanes === 'both' || lanes === lane
        })
      for (const lane of ['interactive', 'batch']) {
        const most = taking(lane).reduce((sum, { spec }) => sum + spec.maxReplicaCount, 0)
        expect(most).toBeLessThanOrEqual(config.partitions)
      }
    })

    it('leave the replicas to whoever scales them', () => {
      const targets = scaledObjects(objectsOf(example)).map(({ spec }) => spec.scaleTargetRef.name)
      for (const { metadata, spec } of workloads(objectsOf(example)))
        if (targets.includes(metadata.name)) expect(spec.replicas).toBeUndefined()
    })
  })

  it.each([
    ['processor', 'interactive'],
    ['batch-processor', 'batch'],
  ] as const)('scale %s by the lag of its lane, and by what the load needs at full quality', (part, lane) => {
    const { kafka, prometheus } = triggersOf('default', part)
    expect(kafka.metadata).toMatchObject({
      bootstrapServers: 'kafka:9092',
      topic: topics[lane],
      consumerGroup: groups[lane],
      activationLagThreshold: '0',
      offsetResetPolicy: 'earliest',
    })
    expect(Number(kafka.metadata.lagThreshold)).toBeGreaterThan(0)
    expect(kafka.authenticationRef).toBeUndefined()
    expect(prometheus).toMatchObject({
      metricType: 'AverageValue',
      metadata: {
        serverAddress: expect.stringMatching(/^http/),
        query: `max(turbine_desired_replicas{lane="${lane}"})`,
        threshold: '1',
        ignoreNullValues: 'false',
      },
    })
  })

  it('scale each model by what is in its topics, which the Job makes', () => {
    const ids = ['HuggingFaceTB--SmolVLM-256M-Instruct', 'blip-large']
    const { args } = containerOf('models', 'topics')
    expect(args).toEqual(['topics', 'create', ...ids.flatMap((id) => ['--model', id])])
    const scaled = scaledObjects(objectsOf('models')).map(({ metadata, spec }) => {
      const part = metadata.name.replace('release-turbine-', '')
      const { model, lanes } = loadConfig({ env: environmentOf(containerOf('models', part)) }).config
      expect(spec.scaleTargetRef.name).toBe(metadata.name)
      const lane = lanes === 'both' ? 'interactive' : 'batch'
      const id = basename(model[0]!)
      const { kafka, prometheus } = triggersOf('models', part)
      expect(kafka.metadata).toMatchObject({
        topic: jobTopic(lane, id).topic,
        consumerGroup: jobTopic(lane, id).group,
      })
      expect(prometheus.metadata.query).toBe(`max(turbine_desired_replicas{lane="${lane}",model="${id}"})`)
      return [id, lane, spec.minReplicaCount, spec.maxReplicaCount]
    })
    expect(scaled).toEqual([
      [ids[0], 'interactive', 1, 8],
      [ids[0], 'batch', 0, 4],
      [ids[1], 'interactive', 1, 16],
    ])
  })

  it('scale the batch lane to zero, and nothing else', () => {
    expect(scaledOf('default', 'processor').spec.minReplicaCount).toBe(1)
    expect(scaledOf('default', 'batch-processor').spec.minReplicaCount).toBe(0)
    expect(scaledOf('always-on', 'batch-processor').spec.minReplicaCount).toBe(1)
  })

  it('scale up at once and down slowly', () => {
    for (const { spec } of scaledObjects(objectsOf('default'))) {
      const { scaleUp, scaleDown } = spec.advanced.horizontalPodAutoscalerConfig.behavior
      expect(scaleUp.stabilizationWindowSeconds).toBe(0)
      expect(scaleDown.stabilizationWindowSeconds).toBeGreaterThanOrEqual(60)
      expect(spec.fallback.replicas).toBeGreaterThan(0)
    }
  })

  it('let the batch processors take batches alone, the others what they are told', () => {
    const lanes = (example: string, part: string) => environmentOf(containerOf(example, part)).TURBINE_LANES
    expect(lanes('default', 'processor')).toBe('both')
    expect(lanes('always-on', 'processor')).toBe('interactive')
    expect(lanes('default', 'batch-processor')).toBe('batch')
  })

  it('make a fixed number of processors without KEDA', () => {
    expect(workloadOf(objectsOf('fixed'), 'processor').spec.replicas).toBe(3)
    expect(scaledObjects(objectsOf('fixed'))).toEqual([])
    expect(find('fixed', 'Job', 'release-turbine-topics')).toBeUndefined()
  })

  it('tell KEDA how it logs in to Kafka, in its own words', () => {
    expect(triggersOf('secured', 'processor').kafka.authenticationRef).toEqual({
      name: 'release-turbine-kafka',
    })
    expect(find('secured', 'ConfigMap', 'release-turbine-kafka')).toMatchObject({
      data: { sasl: 'scram_sha512', tls: 'enable' },
    })
    const from = (parameter: string, key: string) => ({ parameter, name: 'turbine-credentials', key })
    expect(find('secured', 'TriggerAuthentication', 'release-turbine-kafka')).toMatchObject({
      spec: {
        configMapTargetRef: [{ parameter: 'sasl' }, { parameter: 'tls' }],
        secretTargetRef: [
          from('username', 'KAFKA_USERNAME'),
          from('password', 'KAFKA_PASSWORD'),
          from('ca', 'KAFKA_CA'),
        ],
      },
    })
  })

  it('take secrets from a Secret only, which is the one that there is', () => {
    expect(find('secured', 'Secret', 'release-turbine')).toBeUndefined()
    const secrets = ['KAFKA_PASSWORD', 'AWS_SECRET_ACCESS_KEY', 'TURBINE_REPLY_SECRET']
    for (const { env } of containersOf('secured'))
      for (const { name, value, valueFrom } of env)
        if (secrets.includes(name)) {
          expect(value).toBeUndefined()
          expect(valueFrom?.secretKeyRef).toMatchObject({ name: 'turbine-credentials', key: name })
        }
    expect(environmentOf(containerOf('secured', 'edge'))).not.toHaveProperty('AWS_SECRET_ACCESS_KEY')
  })

  it('make the topics before anything else, with a Secret of their own', () => {
    const secret = find('default', 'Secret', 'release-turbine-topics')
    const job = find('default', 'Job', 'release-turbine-topics')
    const weight = (object: KubernetesObject | undefined) =>
      Number(object?.metadata.annotations?.['helm.sh/hook-weight'])
    for (const object of [secret, job])
      expect(object?.metadata.annotations?.['helm.sh/hook']).toBe('pre-install,pre-upgrade')
    expect(weight(secret)).toBeLessThan(weight(job))
    const names = containerOf('default', 'topics').env.flatMap(
      ({ valueFrom }) => valueFrom?.secretKeyRef ?? [],
    )
    expect(names).toEqual([])
  })

  it('give processors their GPUs, and the image and the device for them', () => {
    const { image, env, resources } = containerOf('cuda', 'processor')
    expect(image).toBe('turbine:0.1.0-cuda')
    expect(env).toContainEqual({ name: 'TURBINE_DEVICE', value: 'cuda:0,1' })
    expect(resources.limits).toMatchObject({ 'nvidia.com/gpu': 2 })
    expect(containerOf('cuda', 'planner').image).toBe('turbine:0.1.0')
    expect(containerOf('default', 'processor').image).toBe('turbine:0.1.0')
  })

  it('serve the model that was pulled, where the command puts it', () => {
    const { initContainers, containers } = workloadOf(objectsOf('cuda'), 'batch-processor').spec.template.spec
    expect(initContainers?.[0]?.args).toEqual(
      expect.arrayContaining(['models', 'pull', 'Salesforce/blip-image-captioning-base']),
    )
    expect(environmentOf(containers[0]).TURBINE_MODEL).toBe(
      '/data/models/Salesforce--blip-image-captioning-base',
    )
  })

  it('let processors answer to the edge that holds the caller', () => {
    const { env } = containerOf('default', 'edge')
    const place = env.findIndex(({ name }) => name === 'TURBINE_PUBLIC_URL')
    expect(env[place]?.value).toBe('http://$(POD_IP):9464')
    // Kubernetes fills in only what stands before.
    expect(env.findIndex(({ name }) => name === 'POD_IP')).toBeLessThan(place)
  })

  it('lead callers to the API alone: operations have a port that no Service and no Ingress has', () => {
    expect(find('secured', 'Service', 'release-turbine-edge')).toMatchObject({
      spec: { ports: [{ name: 'http', targetPort: 'http' }] },
    })
    for (const part of ['edge', 'planner', 'processor']) {
      const container = containerOf('default', part)
      expect(environmentOf(container).TURBINE_OPERATIONS_PORT).toBe('9464')
      expect(container).toMatchObject({
        readinessProbe: { httpGet: { port: 'operations' } },
        livenessProbe: { httpGet: { port: 'operations' } },
      })
    }
    expect(find('default', 'NetworkPolicy', 'release-turbine')).toMatchObject({
      spec: { policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 'operations' }] }] },
    })
    expect(find('default', 'NetworkPolicy', 'release-turbine-edge')).toMatchObject({
      spec: { ingress: [{ ports: [{ port: 'http' }] }] },
    })
  })

  it('let edges know callers by what the Ingress says', () => {
    expect(environmentOf(containerOf('secured', 'edge')).TURBINE_PROXIES).toBe('1')
    expect(environmentOf(containerOf('default', 'edge'))).not.toHaveProperty('TURBINE_PROXIES')
  })

  it('keep pods out of private networks where the values say so, but for what they name', () => {
    const policy = find('secured', 'NetworkPolicy', 'release-turbine')
    expect(policy).toMatchObject({ spec: { policyTypes: ['Ingress', 'Egress'] } })
    const text = JSON.stringify(policy)
    for (const part of ['169.254.0.0/16', '168.63.129.16/32', '10.0.0.0/8', '10.20.0.0/16'])
      expect(text).toContain(part)
  })

  it('bound what a pod writes to its node', () => {
    for (const example of examples)
      for (const workload of workloads(objectsOf(example))) {
        const { volumes } = workload.spec.template.spec as unknown as { volumes: { emptyDir?: object }[] }
        for (const { emptyDir } of volumes)
          if (emptyDir) expect(emptyDir).toMatchObject({ sizeLimit: expect.stringMatching(/^\d+[GM]i$/) })
      }
  })

  it('name an image by its digest, if there is one', () => {
    expect(containerOf('secured', 'planner').image).toMatch(/^turbine@sha256:0{64}$/)
  })
})
