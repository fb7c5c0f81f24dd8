//go:build modules

package main

// This file owns what gRPC and ttrpc send. Nothing has to be generated: both are messages of the module of protobuf itself, whose code
// is protoc-gen-go's own, so that a call costs what it costs those who write a .proto file. The text is a google.protobuf.StringValue;
// the struct of ten fields is a google.protobuf.FieldDescriptorProto, which has them beside its options.

import (
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	protoService = "bench.Echo"
	protoSay     = "Say"
	protoSayTen  = "SayTen"
)

type (
	protoText = wrapperspb.StringValue
	protoTen  = descriptorpb.FieldDescriptorProto
)

func newProtoTen(t Ten) *protoTen {
	label, kind := descriptorpb.FieldDescriptorProto_Label(t.Label), descriptorpb.FieldDescriptorProto_Type(t.Type)
	return &protoTen{
		Name: &t.Name, Extendee: &t.Extendee, Number: &t.Number, Label: &label, Type: &kind, TypeName: &t.TypeName,
		DefaultValue: &t.DefaultValue, OneofIndex: &t.OneofIndex, JsonName: &t.JSONName, Proto3Optional: &t.Optional,
	}
}

func tenOfProto(p *protoTen) Ten {
	return Ten{
		p.GetName(), p.GetExtendee(), p.GetNumber(), int32(p.GetLabel()), int32(p.GetType()), p.GetTypeName(),
		p.GetDefaultValue(), p.GetOneofIndex(), p.GetJsonName(), p.GetProto3Optional(),
	}
}
