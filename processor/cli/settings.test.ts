import { Command } from 'commander'
import { expect, test } from 'vitest'
import { describeConfig } from '../../infra/config.ts'
import { describeVariables, repeatedOption, settingOption, settingOptions } from './settings.ts'

test('an option is named like its setting and says variable, values and default', () => {
  const option = settingOption(describeConfig(), 'logFormat')
  expect([option.attributeName(), option.flags]).toEqual(['logFormat', '--log-format <FORMAT>'])
  expect(option.description).toMatch(/auto \| text \| json \(TURBINE_LOG_FORMAT, default: auto\)$/)
})

test('an option of several values is repeated', () => {
  const command = new Command().addOption(repeatedOption(describeConfig(), 'model'))
  expect(command.parse(['--model', 'a', '--model', 'b/c'], { from: 'user' }).opts()).toEqual({
    model: 'a,b/c',
  })
})

test('every setting that is no secret is an option; every one has a line in the help', () => {
  const settings = describeConfig()
  expect(settingOptions(settings).map((option) => option.attributeName())).toEqual(
    settings.filter(({ flag }) => flag !== undefined).map(({ name }) => name),
  )
  const secrets = settings.filter(({ flag }) => flag === undefined).map(({ name }) => name)
  expect(secrets).toEqual(['replySecret', 'kafkaPassword', 's3AccessKeyId', 's3SecretAccessKey'])
  const help = describeVariables(settings)
  for (const { variable } of settings) expect(help).toContain(`  ${variable} `)
  expect(help).toContain('HF_TOKEN')
})
