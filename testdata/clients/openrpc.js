// Reads an OpenRPC document from standard input, and prints what its public meta-schema finds wrong with it, or "valid". Then
// compiles each schema in it, as a whole and where it stands, so that each reference has to lead somewhere.
const Ajv = require('ajv')
const formats = require('ajv-formats')
const { openrpcDocument } = require('@open-rpc/meta-schema')
const metaSchema = require('@json-schema-tools/meta-schema').default

const document = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const ajv = new Ajv({ strict: false, validateSchema: false })
formats(ajv)
// What the meta-schemas name as their own meta-schema no validator knows, and the id of one is spelled in two ways.
for (const $id of ['https://meta.json-schema.tools', 'https://meta.json-schema.tools/']) ajv.addSchema({ ...metaSchema, $id, $schema: undefined })
const validate = ajv.compile({ ...openrpcDocument, $schema: undefined })
if (!validate(document)) {
  console.log(JSON.stringify(validate.errors, null, 1))
  process.exit(1)
}
ajv.addSchema(document, 'document')
document.methods.forEach((method, i) => {
  ajv.compile({ $ref: `document#/methods/${i}/result/schema` })
  method.params.forEach((_, n) => ajv.compile({ $ref: `document#/methods/${i}/params/${n}/schema` }))
  if (method['x-part']) ajv.compile({ $ref: `document#/methods/${i}/x-part` })
})
console.log('valid')
