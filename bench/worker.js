// The side worker-node-json: a worker that answers Far.Say.
process.on('message', ({ id, params }) => process.send({ jsonrpc: '2.0', id, result: params[0] }))
