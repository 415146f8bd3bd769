import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, it } from 'vitest'
import { loadConfig } from '../../infra/config.ts'
import { deployFolder } from './chart.ts'
import { readCommands } from './commands.ts'
import { readServices, type Service } from './compose.ts'

const services = await readServices()
const ours = Object.entries(services).filter(([, { image }]) => image.startsWith('turbine:'))

/** Settings of a service, with the secret that the caller is asked for. */
const configOf = ({ environment = {} }: Service) => {
  const env = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, String(value)]))
  return loadConfig({ env: { ...env, TURBINE_REPLY_SECRET: 'sixteen characters' } })
}

it('has every part of a fleet', () => {
  expect(ours.map(([name]) => name)).toEqual(['edge', 'planner', 'processor', 'topics'])
})

it('runs commands that there are, with settings that there are', async () => {
  const commands = await readCommands()
  for (const [name, service] of ours) {
    expect(commands).toContain(service.command?.[0])
    expect(configOf(service).warnings, name).toEqual([])
  }
})

it('gives all parts the same stream, store and secret', () => {
  const shared = ours.map(([, service]) => {
    const { publicUrl, ...config } = configOf(service).config
    return config
  })
  for (const config of shared) expect(config).toEqual(shared[0])
})

it('reaches services by their names and ports', () => {
  const { config } = configOf(services.edge!)
  const hosts = [config.kafkaBrokers, config.s3Endpoint, config.publicUrl].map(
    (address) => new URL(address!.includes('://') ? address! : `kafka://${address}`).host,
  )
  expect(hosts).toEqual(['kafka:9092', 's3:7070', 'edge:9464'])
  for (const host of hosts) expect(services).toHaveProperty(host.split(':')[0]!)
})

it('gives every part more time to end than its work takes', () => {
  for (const [, service] of ours)
    expect(Number.parseInt(service.stop_grace_period!, 10)).toBeGreaterThan(
      configOf(service).config.shutdownMs / 1000 + 5,
    )
})

it('waits for what it depends on', () => {
  for (const [name, { depends_on = {} }] of Object.entries(services))
    for (const other of Object.keys(depends_on)) expect(services, name).toHaveProperty(other)
})

it('can be reached from this machine only', () => {
  for (const { ports = [] } of Object.values(services))
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
})

it('mounts and builds from files that there are', () => {
  const mounted = Object.values(services).flatMap(({ volumes = [] }) =>
    volumes.filter((volume) => volume.startsWith('.')).map((volume) => volume.split(':')[0]!),
  )
  expect(mounted.length).toBeGreaterThan(2)
  for (const path of mounted) expect(existsSync(resolve(deployFolder, path)), path).toBe(true)
  const { context, dockerfile } = services.edge!.build!
  expect(existsSync(resolve(deployFolder, context, dockerfile))).toBe(true)
})
