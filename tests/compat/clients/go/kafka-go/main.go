// Kafka-go under the contract of tests/compat/src/contract.rs: `kafka-go ADDRESS CASE [ARGUMENT...]`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/segmentio/kafka-go"

	"clients/lines"
)

const limit = 100 * time.Second

var (
	address = os.Args[1]
	ctx     = context.Background()
	client  = &kafka.Client{Addr: kafka.TCP(address), Timeout: 10 * time.Second}
)

func main() {
	time.AfterFunc(limit, func() { lines.Check(fmt.Errorf("not done within %v", limit)) })
	lines.Run(map[string]func([]string){
		"produce": produce, "read": read, "offsets": offsets, "member": member, "committed": committed, "create": create,
		"topics": topics, "partitions": partitions, "configs": configs, "alter": alter, "groups": groups,
		"delete-group": deleteGroup, "delete": deleteTopic,
	})
}

var codecs = map[string]kafka.Compression{
	"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

func produce(arguments []string) {
	writer := &kafka.Writer{
		Addr:            kafka.TCP(address),
		Topic:           arguments[0],
		RequiredAcks:    kafka.RequireAll,
		Compression:     codecs[arguments[1]],
		BatchTimeout:    time.Millisecond,
		MaxAttempts:     200,
		WriteBackoffMin: 50 * time.Millisecond,
		WriteBackoffMax: 50 * time.Millisecond,
		// The record's own partition, which only a balancer may choose.
		Balancer: kafka.BalancerFunc(func(message kafka.Message, _ ...int) int { return message.Partition }),
		Completion: func(messages []kafka.Message, err error) {
			lines.Check(err)
			for _, message := range messages {
				lines.Say(message.Partition, message.Offset)
			}
		},
	}
	lines.Chunks(func(chunk []lines.Record) {
		var messages []kafka.Message
		for _, record := range chunk {
			message := kafka.Message{
				Partition: record.Partition, Time: time.UnixMilli(record.Time), Key: record.Key, Value: record.Value,
			}
			for _, header := range record.Headers {
				message.Headers = append(message.Headers, kafka.Header{Key: header.Name, Value: []byte(header.Text)})
			}
			messages = append(messages, message)
		}
		lines.Check(writer.WriteMessages(ctx, messages...))
	})
	lines.Check(writer.Close())
}

func sayMessage(message kafka.Message) {
	record := lines.Record{
		Partition: message.Partition, Offset: message.Offset, Time: message.Time.UnixMilli(),
		Key: message.Key, Value: message.Value,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, lines.Header{Name: header.Key, Text: string(header.Value)})
	}
	lines.SayRecord(record)
}

func newReader(topic string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{address}, Topic: topic, Partition: partition, MaxWait: 200 * time.Millisecond,
		ReadBackoffMin: 50 * time.Millisecond, ReadBackoffMax: 50 * time.Millisecond, MaxAttempts: 200,
	})
}

func read(arguments []string) {
	partition := int(lines.Number(arguments[1]))
	reader := newReader(arguments[0], partition)
	switch arguments[2] {
	case "beginning":
		lines.Check(reader.SetOffset(kafka.FirstOffset))
	case "end":
		// kafka.LastOffset is looked up some time after the call; this is looked up before `ready`.
		lines.Check(reader.SetOffset(end(arguments[0], partition)))
		lines.Say("ready")
	default:
		lines.Check(reader.SetOffset(lines.Number(arguments[2])))
	}
	for count := lines.Number(arguments[3]); count > 0; count-- {
		message, err := reader.ReadMessage(ctx)
		lines.Check(err)
		sayMessage(message)
	}
	lines.Check(reader.Close())
}

func list(topic string, request kafka.OffsetRequest) kafka.PartitionOffsets {
	topics := map[string][]kafka.OffsetRequest{topic: {request}}
	answer, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: topics})
	lines.Check(err)
	offsets := answer.Topics[topic][0]
	lines.Check(offsets.Error)
	return offsets
}

func end(topic string, partition int) int64 {
	return list(topic, kafka.LastOffsetOf(partition)).LastOffset
}

func offsets(arguments []string) {
	topic, partition := arguments[0], int(lines.Number(arguments[1]))
	lines.Say("beginning", list(topic, kafka.FirstOffsetOf(partition)).FirstOffset)
	lines.Say("end", end(topic, partition))
	for _, at := range arguments[2:] {
		found := list(topic, kafka.TimeOffsetOf(partition, time.UnixMilli(lines.Number(at))))
		offset := int64(-1)
		for one := range found.Offsets {
			offset = one
		}
		lines.Say(at, offset)
	}
}

func member(arguments []string) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		Brokers: []string{address}, Topics: arguments[:1], ID: arguments[1],
		SessionTimeout: 10 * time.Second, HeartbeatInterval: 200 * time.Millisecond, JoinGroupBackoff: 100 * time.Millisecond,
	})
	lines.Check(err)
	running, stop := context.WithCancel(ctx)
	ended := lines.StdinEnd()
	go func() {
		<-ended
		stop()
	}()
	for {
		generation, err := group.Next(running)
		if running.Err() != nil {
			break
		}
		if errors.Is(err, kafka.RebalanceInProgress) {
			continue
		}
		lines.Check(err)
		assigned := generation.Assignments[arguments[0]]
		sort.Slice(assigned, func(left, right int) bool { return assigned[left].ID < assigned[right].ID })
		words := []any{"assigned"}
		for _, partition := range assigned {
			words = append(words, partition.ID)
		}
		lines.Say(words...)
		for _, partition := range assigned {
			partition := partition
			generation.Start(func(ctx context.Context) { readAssigned(ctx, generation, arguments[0], partition) })
		}
	}
	lines.Check(group.Close())
}

func readAssigned(ctx context.Context, generation *kafka.Generation, topic string, partition kafka.PartitionAssignment) {
	reader := newReader(topic, partition.ID)
	defer reader.Close()
	lines.Check(reader.SetOffset(partition.Offset))
	for {
		message, err := reader.ReadMessage(ctx)
		if errors.Is(err, kafka.ErrGenerationEnded) || ctx.Err() != nil {
			return
		}
		lines.Check(err)
		offsets := map[string]map[int]int64{topic: {partition.ID: message.Offset + 1}}
		if generation.CommitOffsets(offsets) != nil {
			// Whoever has the partition next reads it.
			return
		}
		sayMessage(message)
	}
}

func described(topics ...string) []kafka.Topic {
	answer, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	lines.Check(err)
	for _, topic := range answer.Topics {
		lines.Check(topic.Error)
	}
	return answer.Topics
}

func committed(arguments []string) {
	var partitions []int
	for _, partition := range described(arguments[0])[0].Partitions {
		partitions = append(partitions, partition.ID)
	}
	sort.Ints(partitions)
	request := &kafka.OffsetFetchRequest{GroupID: arguments[1], Topics: map[string][]int{arguments[0]: partitions}}
	answer, err := client.OffsetFetch(ctx, request)
	lines.Check(err)
	lines.Check(answer.Error)
	offsets := map[int]int64{}
	for _, partition := range answer.Topics[arguments[0]] {
		lines.Check(partition.Error)
		offsets[partition.Partition] = partition.CommittedOffset
	}
	for _, partition := range partitions {
		if offsets[partition] >= 0 {
			lines.Say(partition, offsets[partition])
		}
	}
}

func checkAll(errs map[string]error) {
	for _, err := range errs {
		lines.Check(err)
	}
}

func create(arguments []string) {
	topic := kafka.TopicConfig{Topic: arguments[0], NumPartitions: int(lines.Number(arguments[1])), ReplicationFactor: 1}
	for key, value := range lines.Configs(arguments[2:]) {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	answer, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	lines.Check(err)
	checkAll(answer.Errors)
}

func topics([]string) {
	all := described()
	sort.Slice(all, func(left, right int) bool { return all[left].Name < all[right].Name })
	for _, topic := range all {
		if !topic.Internal {
			lines.Say(topic.Name, len(topic.Partitions))
		}
	}
}

func partitions(arguments []string) {
	topics := []kafka.TopicPartitionsConfig{{Name: arguments[0], Count: int32(lines.Number(arguments[1]))}}
	answer, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: topics})
	lines.Check(err)
	checkAll(answer.Errors)
}

func configs(arguments []string) {
	resource := kafka.DescribeConfigRequestResource{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: arguments[0], ConfigNames: arguments[1:],
	}
	resources := []kafka.DescribeConfigRequestResource{resource}
	answer, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: resources})
	lines.Check(err)
	lines.Check(answer.Resources[0].Error)
	values := map[string]string{}
	for _, entry := range answer.Resources[0].ConfigEntries {
		values[entry.ConfigName] = entry.ConfigValue
	}
	for _, key := range arguments[1:] {
		lines.Say(key + "=" + values[key])
	}
}

func alter(arguments []string) {
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: arguments[0]}
	for key, value := range lines.Configs(arguments[1:]) {
		config := kafka.IncrementalAlterConfigsRequestConfig{Name: key, Value: value, ConfigOperation: kafka.ConfigOperationSet}
		resource.Configs = append(resource.Configs, config)
	}
	resources := []kafka.IncrementalAlterConfigsRequestResource{resource}
	answer, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: resources})
	lines.Check(err)
	lines.Check(answer.Resources[0].Error)
}

func groups([]string) {
	answer, err := client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	lines.Check(err)
	lines.Check(answer.Error)
	var names []string
	for _, group := range answer.Groups {
		names = append(names, group.GroupID)
	}
	sort.Strings(names)
	for _, name := range names {
		lines.Say(name)
	}
}

func deleteGroup(arguments []string) {
	answer, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: arguments})
	lines.Check(err)
	checkAll(answer.Errors)
}

func deleteTopic(arguments []string) {
	answer, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: arguments})
	lines.Check(err)
	checkAll(answer.Errors)
}
